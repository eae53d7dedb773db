/* Which events certainly are by who signed them and have their subject as their record's key. The one caller is
   salus.events.fitting; of an event that is passed over here nothing is concluded. */

#include <stdint.h>
#include <string.h>

/* The cells of a column: that of row i is data[places[i]..places[i + 1]], and there is none if `valid` is given
   and bit i of it is not set. */
typedef struct {
    const uint8_t *data;
    const uint64_t *places;
    const uint8_t *valid;
} Cells;

/* `types`, and `spans` with `stride` numbers for each row, are what is known of the events; `batches` says which
   batch a row is of, and `signers` by whom a batch is, in the order of `dids`; -1 is none. */
typedef struct {
    uint64_t rows, stride, source, subject, types_count, signers_count;
    const uint8_t *events;
    const uint64_t *spans;
    const int32_t *types, *batches, *signers;
    Cells keys, dids;
} Facts;

static int is_same(const Cells *cells, uint64_t row, const uint8_t *text, uint64_t size) {
    uint64_t first = cells->places[row];
    if (cells->valid && !(cells->valid[row >> 3] >> (row & 7) & 1))
        return 0;
    return cells->places[row + 1] - first == size && !memcmp(cells->data + first, text, size);
}

/* Rows before ends[0] lie in the topic of number 0, those from there on and before ends[1] in that of number 1, and
   so on. Write to `cases` a number that says topic, type and signer of a row, (topic * types + type) * signers +
   signer, or -1 if it has no type or signer, another source than its signer, or another key than its subject. The
   number in the name changes with the arguments. */
void salus_fitting_1(const Facts *facts, const uint64_t *ends, uint64_t topics, int64_t *cases) {
    uint64_t row = 0;
    for (uint64_t topic = 0; topic < topics; topic++)
        for (; row < ends[topic]; row++) {
            const uint64_t *span = facts->spans + facts->stride * row;
            const uint64_t *source = span + facts->source, *subject = span + facts->subject;
            int32_t type = facts->types[row], batch = facts->batches[row];
            int32_t signer = batch < 0 ? -1 : facts->signers[batch];
            cases[row] = -1;
            if (type < 0 || signer < 0)
                continue;
            if (!is_same(&facts->dids, (uint64_t)signer, facts->events + source[0], source[1] - source[0]))
                continue;
            if (!is_same(&facts->keys, row, facts->events + subject[0], subject[1] - subject[0]))
                continue;
            cases[row] = (int64_t)((topic * facts->types_count + (uint64_t)type) * facts->signers_count +
                                   (uint64_t)signer);
        }
}
