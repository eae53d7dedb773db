/* Which signature each of many values is under: parses `salus-signature` headers and walks their paths, with
   the hashes of many paths in the lanes of sha256_lanes.c. The one caller is salus.ledger.signed_batches,
   which does the same by itself where this library is missing, and looks again at every header that is
   refused here: what is accepted here must be accepted there, with the same key, and nothing else. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HASH 32
#define HEADER_MAX 1024
#define BATCH_MAX 1024
#define PATH_MAX 10 /* hashes: the depth of a batch of BATCH_MAX */
#define SIGNATURE 88 /* base64 of 64 bytes */
#define SIDE_BY_SIDE 256

int salus_sha256_many_2(const uint8_t *prefix, uint64_t prefix_size, const uint8_t *data, uint64_t data_size,
                        const uint64_t *places, uint64_t count, uint8_t *out);

/* A span of a header, and a path on its way up. */
typedef struct {
    const uint8_t *at;
    uint64_t size;
} Text;
typedef struct {
    Text method, size_text, signature;
    uint32_t index, last, steps, done;
    uint8_t path[PATH_MAX * HASH], node[HASH];
} Walk;

enum { LOWER = 1, DIGIT = 2, NAME = 4 }; /* NAME: what may stand in a DID URL here */
static uint8_t kinds_of[256];
/* What a base64 digit is worth as the first, second, third and fourth of four, and NO_DIGIT if it is none. */
static uint32_t worth_of[4][256];
#define NO_DIGIT (1u << 24)

__attribute__((constructor)) static void fill_tables(void) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int place = 0; place < 4; place++)
        for (int c = 0; c < 256; c++)
            worth_of[place][c] = NO_DIGIT;
    for (int i = 0; i < 64; i++) {
        uint8_t c = (uint8_t)digits[i];
        for (int place = 0; place < 4; place++)
            worth_of[place][c] = (uint32_t)i << (18 - 6 * place);
        kinds_of[c] = i < 26 ? NAME : i < 52 ? LOWER | NAME : i < 62 ? DIGIT | NAME : 0;
    }
    for (const char *c = "._:%-"; *c; c++)
        kinds_of[(uint8_t)*c] = NAME;
}

static uint64_t run_of(int kinds, const uint8_t *at, const uint8_t *end) {
    const uint8_t *from = at;
    while (at < end && kinds_of[*at] & kinds)
        at++;
    return (uint64_t)(at - from);
}

/* did:METHOD:ID#FRAGMENT, up to the space after it. */
static int read_method(const uint8_t **at, const uint8_t *end, Text *method) {
    const uint8_t *from = *at, *p = from;
    uint64_t length;
    if (end - p < 4 || memcmp(p, "did:", 4))
        return 0;
    p += 4;
    if (!(length = run_of(LOWER | DIGIT, p, end)) || (p += length) == end || *p++ != ':')
        return 0;
    if (!(length = run_of(NAME, p, end)) || (p += length) == end || *p++ != '#')
        return 0;
    if (!(length = run_of(NAME, p, end)) || (p += length) == end || *p != ' ')
        return 0;
    method->at = from, method->size = (uint64_t)(p - from);
    *at = p + 1;
    return 1;
}

/* A decimal of at most four digits without leading zeros, and the byte after it. */
static int read_number(const uint8_t **at, const uint8_t *end, uint8_t after, uint32_t *number) {
    const uint8_t *p = *at;
    uint64_t length = run_of(DIGIT, p, end);
    if (length < 1 || length > 4 || (length > 1 && *p == '0') || p + length == end || p[length] != after)
        return 0;
    for (*number = 0; length; length--)
        *number = *number * 10 + (*p++ - '0');
    *at = p + 1;
    return 1;
}

/* Decode canonical base64 (RFC 4648 section 4) of exactly `size` bytes that fills the text. */
static int read_base64(const uint8_t *text, uint64_t length, uint64_t size, uint8_t *out) {
    uint32_t stray = 0, rest = (uint32_t)(size % 3);
    if (length != (size + 2) / 3 * 4)
        return 0;
    for (uint64_t whole = size / 3; whole; whole--, text += 4, out += 3) {
        uint32_t bits = worth_of[0][text[0]] | worth_of[1][text[1]] | worth_of[2][text[2]] | worth_of[3][text[3]];
        stray |= bits;
        out[0] = (uint8_t)(bits >> 16), out[1] = (uint8_t)(bits >> 8), out[2] = (uint8_t)bits;
    }
    if (rest) {
        uint32_t bits = worth_of[0][text[0]] | worth_of[1][text[1]] | (rest == 2 ? worth_of[2][text[2]] : 0);
        if (text[3] != '=' || (rest == 1 && text[2] != '=') || bits & (0xffffffu >> (8 * rest)))
            return 0;
        stray |= bits;
        for (uint32_t i = 0; i < rest; i++)
            out[i] = (uint8_t)(bits >> (16 - 8 * i));
    }
    return !(stray & NO_DIGIT);
}

/* One hash for each level at which the node has a sibling. */
static uint32_t path_length(uint32_t index, uint32_t last) {
    uint32_t length = 0;
    for (; last; index >>= 1, last >>= 1)
        length += index & 1 || index < last;
    return length;
}

/* Tell whether a text that was sound is repeated here, with room left behind it. */
static int repeats(const uint8_t *at, const uint8_t *end, const Text *before) {
    return before->size < (uint64_t)(end - at) && !memcmp(at, before->at, before->size);
}

/* v1 METHOD INDEX/SIZE SIGNATURE[ PATH]; most repeat the method and signature of the one before, if there is one. */
static int read_header(const uint8_t *at, uint64_t size, Walk *walk, const Walk *before) {
    const uint8_t *end = at + size;
    uint8_t raw[64];
    uint32_t batch;
    if (size > HEADER_MAX || size < 3 || memcmp(at, "v1 ", 3))
        return 0;
    at += 3;
    if (before && repeats(at, end, &before->method) && at[before->method.size] == ' ') {
        walk->method.at = at, walk->method.size = before->method.size;
        at += before->method.size + 1;
    } else if (!read_method(&at, end, &walk->method))
        return 0;
    if (!read_number(&at, end, '/', &walk->index))
        return 0;
    walk->size_text.at = at;
    if (!read_number(&at, end, ' ', &batch) || batch < 1 || batch > BATCH_MAX || walk->index >= batch)
        return 0;
    walk->size_text.size = (uint64_t)(at - 1 - walk->size_text.at);
    walk->last = batch - 1;
    if (!(before && repeats(at, end, &before->signature)) &&
        (end - at < SIGNATURE || !read_base64(at, SIGNATURE, sizeof raw, raw)))
        return 0;
    walk->signature.at = at, walk->signature.size = SIGNATURE;
    at += SIGNATURE;
    walk->steps = path_length(walk->index, walk->last);
    walk->done = 0;
    if (walk->steps == 0)
        return at == end;
    return at < end && *at == ' ' &&
           read_base64(at + 1, (uint64_t)(end - at - 1), HASH * walk->steps, walk->path);
}

/* Put the node and its sibling in order and go one level up (RFC 9162 section 2.1.3.2). */
static void step(Walk *walk, uint8_t pair[2 * HASH]) {
    const uint8_t *sibling = walk->path + HASH * walk->done++;
    int right = walk->index & 1 || walk->index == walk->last;
    memcpy(pair, right ? sibling : walk->node, HASH);
    memcpy(pair + HASH, right ? walk->node : sibling, HASH);
    if (right)
        while (!(walk->index & 1) && walk->index)
            walk->index >>= 1, walk->last >>= 1;
    walk->index >>= 1, walk->last >>= 1;
}

/* Walk up all paths together, level by level. Neighbours of one batch meet, and from there on are hashed once. */
static void climb(Walk *walks, uint64_t count) {
    static const uint8_t prefix = 1;
    uint8_t pairs[SIDE_BY_SIDE][2 * HASH], hashes[SIDE_BY_SIDE][HASH];
    uint64_t places[SIDE_BY_SIDE + 1], who[SIDE_BY_SIDE], which[SIDE_BY_SIDE];
    for (uint64_t i = 0; i <= SIDE_BY_SIDE; i++)
        places[i] = 2 * HASH * i;
    for (;;) {
        uint64_t moving = 0, distinct = 0;
        for (uint64_t i = 0; i < count; i++)
            if (walks[i].done < walks[i].steps) {
                step(&walks[i], pairs[distinct]);
                if (!distinct || memcmp(pairs[distinct], pairs[distinct - 1], sizeof pairs[0]))
                    distinct++;
                which[moving] = distinct - 1;
                who[moving++] = i;
            }
        if (!moving)
            return;
        salus_sha256_many_2(&prefix, 1, pairs[0], sizeof pairs, places, distinct, hashes[0]);
        for (uint64_t i = 0; i < moving; i++)
            memcpy(walks[who[i]].node, hashes[which[i]], HASH);
    }
}

static uint8_t *put(uint8_t *out, const uint8_t *from, uint64_t size) {
    memcpy(out, from, size);
    return out + size;
}

/* --- Telling batches apart ------------------------------------------------------------------------------- */

/* The distinct keys so far lie joined in `keys`, each ending at its `ends`; `slots` are their numbers plus one by
   the hash of the key, and never more than half of them are taken. */
typedef struct {
    uint8_t *keys;
    uint64_t *ends, mask;
    uint32_t *slots;
    uint32_t count;
} Known;

/* ROOT METHOD SIZE SIGNATURE, written behind the keys that are known; return its size. */
static uint64_t write_key(const Walk *walk, uint8_t *out) {
    uint8_t *at = put(out, walk->node, HASH);
    at = put(at, walk->method.at, walk->method.size);
    at = put(at, (const uint8_t *)" ", 1);
    at = put(at, walk->size_text.at, walk->size_text.size);
    at = put(at, (const uint8_t *)" ", 1);
    at = put(at, walk->signature.at, walk->signature.size);
    return (uint64_t)(at - out);
}

/* Return the number of the walk's batch, a new one if its key is new. */
static uint32_t number_of(Known *known, const Walk *walk) {
    uint64_t end = known->count ? known->ends[known->count - 1] : 0, slot;
    uint8_t *key = known->keys + end;
    uint64_t size = write_key(walk, key);
    memcpy(&slot, key, sizeof slot); /* of a root: as good as random */
    for (;; slot++) {
        uint32_t *found = &known->slots[slot & known->mask];
        if (!*found) {
            known->ends[known->count] = end + size;
            return (*found = ++known->count) - 1;
        }
        uint32_t number = *found - 1;
        uint64_t first = number ? known->ends[number - 1] : 0;
        if (known->ends[number] - first == size && !memcmp(known->keys + first, key, size))
            return number;
    }
}

/* Write to `numbers[i]` which batch the i-th header is of, counted in the order in which they are met, or -1 if
   it is malformed. A batch is the root to which the path leads from the leaf hash, and "METHOD SIZE SIGNATURE";
   these lie joined in `keys`, each ending at its `ends`. There must be room for all: 32 bytes for each header
   besides the headers, `count` ends. Return how many batches there are, or -1 with nothing said if the places go
   backwards or beyond the headers, or -2 if there is no memory. The number in the name changes with the
   arguments. */
int64_t salus_signed_batches_2(const uint8_t *headers, uint64_t headers_size, const uint64_t *places,
                               uint64_t count, const uint8_t *leaves, uint8_t *keys, uint64_t *ends,
                               int32_t *numbers) {
    static __thread Walk walks[SIDE_BY_SIDE];
    Known known = {.keys = keys, .ends = ends, .mask = 15};
    for (uint64_t i = 0; i < count; i++)
        if (places[i] > places[i + 1] || places[i + 1] > headers_size)
            return -1;
    while (known.mask < 2 * count)
        known.mask = known.mask << 1 | 1;
    known.slots = calloc(known.mask + 1, sizeof *known.slots);
    if (!known.slots)
        return -2;
    for (uint64_t first = 0; first < count; first += SIDE_BY_SIDE) {
        uint64_t next = count - first < SIDE_BY_SIDE ? count : first + SIDE_BY_SIDE, sound = 0, walk = 0;
        for (uint64_t i = first; i < next; i++) {
            numbers[i] = read_header(headers + places[i], places[i + 1] - places[i], &walks[sound],
                                     sound ? &walks[sound - 1] : NULL) -
                         1;
            if (numbers[i] == 0)
                memcpy(walks[sound++].node, leaves + HASH * i, HASH);
        }
        climb(walks, sound);
        for (uint64_t i = first; i < next; i++)
            if (numbers[i] == 0)
                numbers[i] = (int32_t)number_of(&known, &walks[walk++]);
    }
    free(known.slots);
    return known.count;
}
