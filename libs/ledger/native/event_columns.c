/* What a block's rows hash to, and whether their columns repeat their events, straight out of a table's
   buffers (Apache Arrow, columnar format 1.5). The one caller is salus.archive.quick_rows; it reads again by
   itself every row of which nothing is concluded here, and does everything where this library is missing.
   So an event may be refused here that is one, but never the other way round. */

#include <emmintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rfc3339.h"

#define HASH 32
#define DEPTH_MAX 32
#define DIGITS_MAX 15
/* What a leaf has besides topic, status and signature: three numbers, a length, separators, and the digest. */
#define LEAF_REST_MAX (11 + 20 + 20 + 10 + 6 + HASH)

int salus_sha256_many_2(const uint8_t *prefix, uint64_t prefix_size, const uint8_t *data, uint64_t data_size,
                        const uint64_t *places, uint64_t count, uint8_t *out);

/* A column from its row `first` on: bit i of `valid` says that row i is not null (no bitmap: none is), and
   the cell of row i is data[places[i]..places[i + 1]]. */
typedef struct {
    const uint8_t *valid;
    const int32_t *places;
    const uint8_t *data;
    uint64_t first, data_size;
} Column;

static int is_valid(const Column *column, uint64_t row) {
    uint64_t bit = column->first + row;
    return !column->valid || column->valid[bit >> 3] >> (bit & 7) & 1;
}

static uint64_t start_of(const Column *column, uint64_t row) {
    return (uint64_t)column->places[column->first + row];
}

static uint64_t size_of(const Column *column, uint64_t row) {
    return start_of(column, row + 1) - start_of(column, row);
}

/* Tell whether the places go on and stay within the data. */
static int is_whole(const Column *column, uint64_t rows) {
    const int32_t *places = column->places + column->first;
    int32_t backwards = places[0] < 0;
    for (uint64_t row = 0; row < rows; row++)
        backwards |= places[row + 1] < places[row];
    return !backwards && (uint64_t)places[rows] <= column->data_size;
}

static uint8_t *put(uint8_t *at, const Column *column, uint64_t row) {
    uint64_t size = size_of(column, row);
    if (size)
        memcpy(at, column->data + start_of(column, row), size);
    return at + size;
}

static uint8_t *put_number(uint8_t *at, int64_t number) {
    uint8_t digits[20];
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    int count = 0;
    do
        digits[count++] = (uint8_t)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *at++ = '-';
    while (count)
        *at++ = digits[--count];
    return at;
}

/* Write each row's leaf hash to out[32 row..]. `kept` has a digest for each row, which counts where there is no
   value. `before` is what a leaf is hashed after. Return 0, or -1 with nothing said: there is no memory, or the
   columns are not what they should be. */
int salus_leaf_hashes_2(uint64_t rows, const uint8_t *before, uint64_t before_size, const Column *topic,
                        const int32_t *partition, const int64_t *offset, const int64_t *timestamp,
                        const Column *status, const Column *signature, const Column *value, const uint8_t *kept, uint8_t *out) {
    if (!is_whole(topic, rows) || !is_whole(status, rows) || !is_whole(signature, rows) || !is_whole(value, rows))
        return -1;
    uint64_t size = rows * LEAF_REST_MAX + start_of(topic, rows) - start_of(topic, 0) + start_of(status, rows) -
                    start_of(status, 0) + start_of(signature, rows) - start_of(signature, 0);
    uint64_t *places = malloc((rows + 1) * sizeof *places);
    uint8_t *leaves = malloc(size + 1);
    int failed = -1;
    if (places && leaves) {
        for (uint64_t row = 0; row <= rows; row++)
            places[row] = start_of(value, row);
        failed = salus_sha256_many_2((const uint8_t *)"", 1, value->data, value->data_size, places, rows, out);
    }
    if (!failed) {
        uint8_t *at = leaves;
        for (uint64_t row = 0; row < rows; row++) {
            places[row] = (uint64_t)(at - leaves);
            at = put(at, topic, row);
            *at++ = ' ';
            at = put_number(at, partition[row]);
            *at++ = ' ';
            at = put_number(at, offset[row]);
            *at++ = ' ';
            at = put_number(at, timestamp[row]);
            *at++ = ' ';
            at = put(at, status, row);
            *at++ = ' ';
            int is_signed = is_valid(signature, row);
            if (is_signed)
                at = put_number(at, (int64_t)size_of(signature, row));
            else
                *at++ = '-';
            *at++ = '\n';
            memcpy(at, (is_valid(value, row) ? out : kept) + HASH * row, HASH);
            at += HASH;
            if (is_signed)
                at = put(at, signature, row);
        }
        places[rows] = (uint64_t)(at - leaves);
        failed = salus_sha256_many_2(before, before_size, leaves, places[rows], places, rows, out);
    }
    free(leaves);
    free(places);
    return failed;
}

/* --- JSON (RFC 8259), read strictly. Each of these returns where it ends, NULL if that is not certain. --- */

static const uint8_t *after_space(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* A character of more than one byte (Unicode 15, table 3-7). */
static const uint8_t *after_wide(const uint8_t *at, const uint8_t *end) {
    uint8_t first = *at, lowest = 0x80, highest = 0xbf;
    int more = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
    if (!more || end - at <= more)
        return NULL;
    if (first == 0xe0)
        lowest = 0xa0;
    else if (first == 0xed)
        highest = 0x9f;
    else if (first == 0xf0)
        lowest = 0x90;
    else if (first == 0xf4)
        highest = 0x8f;
    if (at[1] < lowest || at[1] > highest)
        return NULL;
    for (int i = 2; i <= more; i++)
        if (at[i] < 0x80 || at[i] > 0xbf)
            return NULL;
    return at + more + 1;
}

/* From after the opening to after the closing quote; `plain` becomes 0 if something in it is escaped. */
static const uint8_t *after_string(const uint8_t *at, const uint8_t *end, int *plain) {
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(' ');
    while (at && at < end) {
        while (end - at >= 16) {
            __m128i some = _mm_loadu_si128((const __m128i *)at);
            __m128i special = _mm_or_si128(_mm_cmpeq_epi8(some, quote), _mm_cmpeq_epi8(some, slash));
            /* As signed numbers, control characters and bytes from 0x80 on are below the space. */
            special = _mm_or_si128(special, _mm_cmplt_epi8(some, space));
            int which = _mm_movemask_epi8(special);
            if (which) {
                at += __builtin_ctz((unsigned)which);
                break;
            }
            at += 16;
        }
        if (at == end)
            return NULL;
        if (*at == '"')
            return at + 1;
        if (*at == '\\') {
            *plain = 0;
            if (end - at < 2 || !at[1] || !strchr("\"\\/bfnrt", at[1]))
                return NULL;
            at += 2;
        } else if (*at < ' ')
            return NULL;
        else
            at = *at < 0x80 ? at + 1 : after_wide(at, end);
    }
    return NULL;
}

static const uint8_t *after_digits(const uint8_t *at, const uint8_t *end) {
    const uint8_t *from = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at == from || at - from > DIGITS_MAX ? NULL : at;
}

/* A number of few digits: what is beyond the range of which type is not asked here. An exponent is left over,
   and is nothing that may follow a value. */
static const uint8_t *after_number(const uint8_t *at, const uint8_t *end) {
    if (*at == '-')
        at++;
    const uint8_t *from = at;
    at = after_digits(at, end);
    if (!at || (*from == '0' && at - from > 1))
        return NULL;
    if (at < end && *at == '.')
        at = after_digits(at + 1, end);
    return at;
}

static const uint8_t *after_word(const uint8_t *at, const uint8_t *end, const char *word) {
    uint64_t size = strlen(word);
    return (uint64_t)(end - at) >= size && !memcmp(at, word, size) ? at + size : NULL;
}

static const uint8_t *after_value(const uint8_t *at, const uint8_t *end, int depth);

/* From after the opening bracket of an object or array to after the closing one. */
static const uint8_t *after_many(const uint8_t *at, const uint8_t *end, uint8_t closing, int depth) {
    int plain;
    at = after_space(at, end);
    if (at < end && *at == closing)
        return at + 1;
    while (at && at < end) {
        if (closing == '}') {
            at = *at == '"' ? after_string(at + 1, end, &plain) : NULL;
            at = at ? after_space(at, end) : NULL;
            if (!at || at == end || *at != ':')
                return NULL;
            at = after_space(at + 1, end);
        }
        at = after_value(at, end, depth);
        at = at ? after_space(at, end) : NULL;
        if (!at || at == end)
            return NULL;
        if (*at == closing)
            return at + 1;
        at = *at == ',' ? after_space(at + 1, end) : NULL;
    }
    return NULL;
}

static const uint8_t *after_value(const uint8_t *at, const uint8_t *end, int depth) {
    int plain;
    if (at == end || depth == DEPTH_MAX)
        return NULL;
    switch (*at) {
    case '"':
        return after_string(at + 1, end, &plain);
    case '{':
        return after_many(at + 1, end, '}', depth + 1);
    case '[':
        return after_many(at + 1, end, ']', depth + 1);
    case 't':
        return after_word(at, end, "true");
    case 'f':
        return after_word(at, end, "false");
    case 'n':
        return after_word(at, end, "null");
    default:
        return after_number(at, end);
    }
}

/* --- An event's attributes ------------------------------------------------------------------------------- */

enum { ID, SOURCE, TYPE, SUBJECT, TIME, ATTRIBUTES };

static int attribute_of(const uint8_t *name, uint64_t size) {
    switch (size) {
    case 2:
        return memcmp(name, "id", 2) ? -1 : ID;
    case 4:
        return !memcmp(name, "type", 4) ? TYPE : memcmp(name, "time", 4) ? -1 : TIME;
    case 6:
        return memcmp(name, "source", 6) ? -1 : SOURCE;
    case 7:
        return memcmp(name, "subject", 7) ? -1 : SUBJECT;
    default:
        return -1;
    }
}

static int repeats_attribute(int which, const Column *texts, const int64_t *times, uint64_t row,
                             const uint8_t *text, uint64_t size) {
    int64_t time;
    if (!is_valid(&texts[which], row))
        return 0;
    if (which == TIME)
        return read_time(text, size, &time) && time == times[row];
    return size == size_of(&texts[which], row) &&
           !memcmp(text, texts[which].data + start_of(&texts[which], row), size);
}

static int repeats_event(const uint8_t *at, const uint8_t *end, const Column *texts, const int64_t *times,
                         uint64_t row) {
    unsigned seen = 0;
    at = after_space(at, end);
    if (at == end || *at != '{')
        return 0;
    at = after_space(at + 1, end);
    for (;;) {
        int plain = 1;
        if (at == end || *at != '"')
            return 0;
        const uint8_t *name = at + 1;
        at = after_string(name, end, &plain);
        if (!at || !plain)
            return 0;
        int which = attribute_of(name, (uint64_t)(at - 1 - name));
        at = after_space(at, end);
        if (at == end || *at != ':')
            return 0;
        at = after_space(at + 1, end);
        if (which < 0)
            at = after_value(at, end, 1);
        else {
            if (at == end || *at != '"' || seen >> which & 1)
                return 0;
            const uint8_t *text = at + 1;
            at = after_string(text, end, &plain);
            if (!at || !plain || !repeats_attribute(which, texts, times, row, text, (uint64_t)(at - 1 - text)))
                return 0;
            seen |= 1u << which;
        }
        at = at ? after_space(at, end) : NULL;
        if (!at || at == end || (*at != ',' && *at != '}'))
            return 0;
        if (*at == '}')
            break;
        at = after_space(at + 1, end);
    }
    return seen == (1u << ATTRIBUTES) - 1 && after_space(at + 1, end) == end;
}

/* Write 1 to out[row] if the row has no value, or one that certainly is a JSON object whose attributes the
   columns repeat; else 0. `texts` are id, source, type, subject, and of time only what is null; `times` are
   microseconds since 1970. Return 0, or -1 with nothing said: the columns are not what they should be. */
int salus_repeats_events_1(uint64_t rows, const Column *value, const Column texts[ATTRIBUTES],
                           const int64_t *times, uint8_t *out) {
    int whole = is_whole(value, rows);
    for (int which = ID; which < TIME; which++)
        whole = whole && is_whole(&texts[which], rows);
    if (!whole)
        return -1;
    for (uint64_t row = 0; row < rows; row++) {
        const uint8_t *at = value->data + start_of(value, row);
        out[row] = !is_valid(value, row) || repeats_event(at, at + size_of(value, row), texts, times, row);
    }
    return 0;
}
