/* What stands for pairs of source and id, and which of them were accepted lately. The one caller is
   salus.archive.duplicates, which gives the memory, and does the same by itself where this library is missing. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HASH 32
#define PRINT 15 /* bytes of the hash that are kept */
#define HALF 8
/* How many rows ahead memory is asked for: first what says where to look, then what is there. */
#define FAR 24
#define NEAR 12

int salus_sha256_many_2(const uint8_t *prefix, uint64_t prefix_size, const uint8_t *data, uint64_t data_size,
                        const uint64_t *places, uint64_t count, uint8_t *out);

/* A column: the cell of row i is data[places[i]..places[i + 1]]. */
typedef struct {
    const uint8_t *data;
    uint64_t size;
    const uint64_t *places;
} Column;

static int is_whole(const Column *column, uint64_t rows) {
    int backwards = 0;
    for (uint64_t row = 0; row < rows; row++)
        backwards |= column->places[row] > column->places[row + 1];
    return !backwards && column->places[rows] <= column->size;
}

static uint8_t *put(uint8_t *at, const Column *column, uint64_t row) {
    uint64_t size = column->places[row + 1] - column->places[row];
    if (size)
        memcpy(at, column->data + column->places[row], size);
    return at + size;
}

/* Write the first 15 bytes of each row's SHA-256(source || line feed || id) to out[15 row..]. Return 0, or -1 with
   nothing said: there is no memory, or the columns go backwards or beyond their data. */
int salus_pair_prints_1(const Column *source, const Column *id, uint64_t rows, uint8_t *out) {
    if (!rows)
        return 0;
    if (!is_whole(source, rows) || !is_whole(id, rows))
        return -1;
    uint64_t size = rows + source->places[rows] - source->places[0] + id->places[rows] - id->places[0];
    uint64_t *places = malloc((rows + 1) * sizeof *places);
    uint8_t *pairs = malloc(size), *hashes = malloc(HASH * rows);
    int failed = -1;
    if (places && pairs && hashes) {
        uint8_t *at = pairs;
        for (uint64_t row = 0; row < rows; row++) {
            places[row] = (uint64_t)(at - pairs);
            at = put(at, source, row);
            *at++ = '\n';
            at = put(at, id, row);
        }
        places[rows] = (uint64_t)(at - pairs);
        failed = salus_sha256_many_2((const uint8_t *)"", 0, pairs, places[rows], places, rows, hashes);
    }
    for (uint64_t row = 0; !failed && row < rows; row++)
        memcpy(out + PRINT * row, hashes + HASH * row, PRINT);
    free(hashes);
    free(pairs);
    free(places);
    return failed;
}

/* --- The window ------------------------------------------------------------------------------------------ */

/* A pair in the ring, and the number of the one that had its slot before. */
typedef struct {
    uint8_t print[PRINT];
    uint8_t unused;
    uint32_t before;
} Entry;

/* Pairs are numbered as they come, and numbers go round at 2^32. A slot has the number of the last pair that
   belongs to it, and each pair that of the one before it: so a slot's pairs are a chain, newest first. Nothing is
   ever taken out: a number of more than `count` pairs ago stands for none, and so ends a chain. One that has gone
   round may by accident be of a pair that is there; that one is compared like any other, for nothing. */
typedef struct {
    Entry *entries;
    uint32_t *slots;
    uint64_t size, slots_count;
    uint64_t seed[4];
    uint64_t position; /* of the next pair in the ring */
    uint64_t count;    /* of those that are remembered, at most `size` */
    uint32_t next;     /* its number */
} Window;

/* Multiply-shift over two words (Dietzfelbinger; Thorup, High Speed Hashing for Integers and Strings): whatever two
   prints are, over the seeds they have one slot with a chance of not more than 2 in `slots_count`. */
static uint64_t slot_of(const Window *window, const uint8_t *print) {
    uint64_t first, last;
    memcpy(&first, print, HALF);
    memcpy(&last, print + PRINT - HALF, HALF);
    unsigned __int128 a = (unsigned __int128)window->seed[0] << 64 | window->seed[1];
    unsigned __int128 b = (unsigned __int128)window->seed[2] << 64 | window->seed[3];
    uint64_t mixed = (uint64_t)((a * first + b * last) >> 64);
    return (uint64_t)((unsigned __int128)mixed * window->slots_count >> 64);
}

/* The pair that came `age` pairs before the last one. */
static Entry *entry_of(const Window *window, uint64_t age) {
    uint64_t back = age + 1;
    return window->entries + (window->position >= back ? 0 : window->size) + window->position - back;
}

static uint32_t age_of(const Window *window, uint32_t number) { return window->next - 1 - number; }

static int is_known(const Window *window, uint64_t slot, const uint8_t *print) {
    uint32_t age = age_of(window, window->slots[slot]);
    while (age < window->count) {
        const Entry *entry = entry_of(window, age);
        if (!memcmp(entry->print, print, PRINT))
            return 1;
        uint32_t older = age_of(window, entry->before);
        if (older <= age) /* a number that has gone round */
            return 0;
        age = older;
    }
    return 0;
}

/* Tell whether a pair is remembered. */
int salus_knows_pair_1(const Window *window, const uint8_t *print) {
    return is_known(window, slot_of(window, print), print);
}

/* Remember each of the prints that is not remembered, forgetting the oldest, and write 1 to fresh[i], else 0. */
void salus_admit_pairs_1(Window *window, const uint8_t *prints, uint64_t rows, uint8_t *fresh) {
    uint64_t ahead[FAR];
    for (uint64_t row = 0; row < rows + FAR; row++) {
        if (row >= FAR) {
            const uint8_t *print = prints + PRINT * (row - FAR);
            uint64_t slot = ahead[row % FAR];
            fresh[row - FAR] = !is_known(window, slot, print);
            if (fresh[row - FAR]) {
                Entry *entry = window->entries + window->position;
                memcpy(entry->print, print, PRINT);
                entry->before = window->slots[slot];
                window->slots[slot] = window->next++;
                window->position = window->position + 1 == window->size ? 0 : window->position + 1;
                window->count += window->count < window->size;
            }
        }
        if (row < rows) {
            uint64_t slot = ahead[row % FAR] = slot_of(window, prints + PRINT * row);
            __builtin_prefetch(window->slots + slot);
        }
        if (row >= NEAR && row - NEAR < rows) {
            uint32_t age = age_of(window, window->slots[ahead[(row - NEAR) % FAR]]);
            if (age < window->count)
                __builtin_prefetch(entry_of(window, age));
        }
    }
}
