/* Puts cells that lie scattered in records together into columns. The one caller is salus.ledger.records, which
   does the same by itself where this library is missing. */

#include <stdint.h>
#include <string.h>

/* Rows whose cells lie in `data`: the cell of row i is data[spans[i * stride]..spans[i * stride + 1]], and
   there is none if its span begins below 0. */
typedef struct {
    const uint8_t *data;
    uint64_t size;
    const int64_t *spans;
    uint64_t rows;
} Source;

/* Write where each cell of all sources would begin in a column, and the last one end, to `places`, and of `valid`
   set the bit of each row that has a cell; cells above `size_max` bytes count as empty. Return how many rows
   have none, or -1 with nothing said if spans go backwards or beyond their data. */
int64_t salus_place_cells_1(const Source *sources, uint64_t count, uint64_t stride, uint64_t size_max,
                            uint64_t *places, uint8_t *valid) {
    uint64_t at = 0, row = 0;
    int64_t missing = 0;
    for (uint64_t s = 0; s < count; s++) {
        const int64_t *span = sources[s].spans;
        for (uint64_t i = 0; i < sources[s].rows; i++, row++, span += stride) {
            places[row] = at;
            if (span[0] < 0) {
                missing++;
                continue;
            }
            if (span[1] < span[0] || (uint64_t)span[1] > sources[s].size)
                return -1;
            valid[row >> 3] |= (uint8_t)(1u << (row & 7));
            uint64_t size = (uint64_t)(span[1] - span[0]);
            at += size > size_max ? 0 : size;
        }
    }
    places[row] = at;
    return missing;
}

/* Copy the cells to where `salus_place_cells_1` placed them, given the same arguments. */
void salus_copy_cells_1(const Source *sources, uint64_t count, uint64_t stride, const uint64_t *places,
                        uint8_t *out) {
    uint64_t row = 0;
    for (uint64_t s = 0; s < count; s++) {
        const int64_t *span = sources[s].spans;
        for (uint64_t i = 0; i < sources[s].rows; i++, row++, span += stride)
            if (places[row + 1] > places[row])
                memcpy(out + places[row], sources[s].data + span[0], places[row + 1] - places[row]);
    }
}

/* Return how many bytes the cells of a part have together. `spans` are those of the first row's, as in `Source`. */
int64_t salus_cell_bytes_1(const int64_t *spans, uint64_t rows, uint64_t stride) {
    int64_t bytes = 0;
    for (uint64_t i = 0; i < rows; i++)
        bytes += spans[i * stride + 1] - spans[i * stride];
    return bytes;
}
