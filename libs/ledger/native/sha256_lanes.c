/* SHA-256 (FIPS 180-4) of many messages at once, one message in each lane of a vector register.

   A processor without SHA instructions hashes one message at a time with a small part of its width; here
   8 (AVX2) or 16 (AVX-512) messages go through the same rounds together. The one caller is
   salus.ledger.hashing, which checks the arguments and, where this library is missing, uses hashlib. */

#include <stdint.h>
#include <string.h>

#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define BLOCK 64

static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* The message in one lane: prefix || body, and how far it has been hashed. */
typedef struct {
    const uint8_t *prefix, *body;
    uint64_t prefix_size, size, blocks, next; /* size and blocks are of the whole, next is a block */
    uint64_t index;
    uint8_t own[BLOCK]; /* the first and the last blocks, which do not lie in memory as they are hashed */
} Lane;

static void begin(Lane *lane, uint64_t index, const uint8_t *prefix, uint64_t prefix_size,
                  const uint8_t *body, uint64_t body_size) {
    lane->prefix = prefix;
    lane->prefix_size = prefix_size;
    lane->body = body;
    lane->size = prefix_size + body_size;
    lane->blocks = (lane->size + 8) / BLOCK + 1;
    lane->next = 0;
    lane->index = index;
}

/* Return the next block of the message, put together where it is not one piece of the body. */
static const uint8_t *next_block(Lane *lane) {
    uint64_t from = lane->next * BLOCK, to = from + BLOCK, at = from;
    lane->next++;
    if (from >= lane->prefix_size && to <= lane->size)
        return lane->body + (from - lane->prefix_size);
    memset(lane->own, 0, BLOCK);
    if (at < lane->prefix_size) {
        uint64_t end = to < lane->prefix_size ? to : lane->prefix_size;
        memcpy(lane->own, lane->prefix + at, end - at);
        at = end;
    }
    if (at < to && at < lane->size) {
        uint64_t end = to < lane->size ? to : lane->size;
        memcpy(lane->own + (at - from), lane->body + (at - lane->prefix_size), end - at);
        at = end;
    }
    if (lane->size >= from && lane->size < to)
        lane->own[lane->size - from] = 0x80;
    if (lane->next == lane->blocks) {
        uint64_t bits = lane->size * 8;
        for (int i = 0; i < 8; i++)
            lane->own[BLOCK - 1 - i] = (uint8_t)(bits >> (8 * i));
    }
    return lane->own;
}

static void put_digest(uint8_t *out, const uint32_t words[8]) {
    for (int i = 0; i < 8; i++)
        for (int b = 0; b < 4; b++)
            out[4 * i + b] = (uint8_t)(words[i] >> (24 - 8 * b));
}

/* One round; instead of moving the eight words on, the next round names them shifted by one. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                               \
    h += (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) + (g ^ (e & (f ^ g))) + K[t + i] + w[i];       \
    d += h;                                                                                            \
    h += (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + ((a & b) | (c & (a | b)));
#define EIGHT_ROUNDS(i)                                                                                \
    ROUND(a, b, c, d, e, f, g, h, i)                                                                   \
    ROUND(h, a, b, c, d, e, f, g, i + 1)                                                               \
    ROUND(g, h, a, b, c, d, e, f, i + 2)                                                               \
    ROUND(f, g, h, a, b, c, d, e, i + 3)                                                               \
    ROUND(e, f, g, h, a, b, c, d, i + 4)                                                               \
    ROUND(d, e, f, g, h, a, b, c, i + 5)                                                               \
    ROUND(c, d, e, f, g, h, a, b, i + 6)                                                               \
    ROUND(b, c, d, e, f, g, h, a, i + 7)
/* The message schedule: word i + 16 takes the place of word i. */
#define EXPAND(i)                                                                                      \
    w[i] += w[(i + 9) & 15] +                                                                          \
            (ROTATE(w[(i + 1) & 15], 7) ^ ROTATE(w[(i + 1) & 15], 18) ^ (w[(i + 1) & 15] >> 3)) +      \
            (ROTATE(w[(i + 14) & 15], 17) ^ ROTATE(w[(i + 14) & 15], 19) ^ (w[(i + 14) & 15] >> 10));

/* One function for each width: the compiler turns the vector type into what the target has. */
#define DEFINE(NAME, LANES, TARGET)                                                                    \
    typedef uint32_t NAME##_words __attribute__((vector_size(4 * LANES)));                             \
    __attribute__((target(TARGET))) static void NAME##_round(NAME##_words s[8],                        \
                                                             const uint8_t *const blocks[LANES]) {     \
        NAME##_words w[16];                                                                            \
        uint32_t words[16][LANES] __attribute__((aligned(64)));                                        \
        for (int lane = 0; lane < LANES; lane++)                                                       \
            for (int t = 0; t < 16; t++) {                                                             \
                uint32_t word;                                                                         \
                memcpy(&word, blocks[lane] + 4 * t, 4);                                                \
                words[t][lane] = __builtin_bswap32(word);                                              \
            }                                                                                          \
        memcpy(w, words, sizeof w);                                                                    \
        NAME##_words a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];   \
        for (int t = 0; t < 64; t += 16) {                                                             \
            EIGHT_ROUNDS(0)                                                                            \
            EIGHT_ROUNDS(8)                                                                            \
            if (t == 48)                                                                               \
                break;                                                                                 \
            EXPAND(0) EXPAND(1) EXPAND(2) EXPAND(3) EXPAND(4) EXPAND(5) EXPAND(6) EXPAND(7)            \
            EXPAND(8) EXPAND(9) EXPAND(10) EXPAND(11) EXPAND(12) EXPAND(13) EXPAND(14) EXPAND(15)      \
        }                                                                                              \
        s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;        \
    }                                                                                                  \
    __attribute__((target(TARGET))) static void NAME(const uint8_t *prefix, uint64_t prefix_size,      \
                                                     const uint8_t *data, const uint64_t *places,       \
                                                     uint64_t count, uint8_t *out) {                   \
        Lane lanes[LANES];                                                                             \
        NAME##_words s[8];                                                                             \
        const uint8_t *blocks[LANES];                                                                  \
        static const uint8_t idle[BLOCK];                                                              \
        uint64_t begun = 0, busy = 0;                                                                  \
        for (int lane = 0; lane < LANES; lane++)                                                       \
            lanes[lane].blocks = lanes[lane].next = 0, lanes[lane].index = count;                      \
        do {                                                                                           \
            for (int lane = 0; lane < LANES; lane++) {                                                 \
                Lane *at = &lanes[lane];                                                               \
                if (at->next == at->blocks && begun < count) {                                         \
                    begin(at, begun, prefix, prefix_size, data + places[begun],                          \
                          places[begun + 1] - places[begun]);                                              \
                    begun++, busy++;                                                                   \
                    for (int i = 0; i < 8; i++)                                                        \
                        s[i][lane] = START[i];                                                         \
                }                                                                                      \
                blocks[lane] = at->next < at->blocks ? next_block(at) : idle;                          \
            }                                                                                          \
            NAME##_round(s, blocks);                                                                   \
            for (int lane = 0; lane < LANES; lane++) {                                                 \
                Lane *at = &lanes[lane];                                                               \
                if (at->index < count && at->next == at->blocks) {                                     \
                    uint32_t words[8];                                                                 \
                    for (int i = 0; i < 8; i++)                                                        \
                        words[i] = s[i][lane];                                                         \
                    put_digest(out + 32 * at->index, words);                                           \
                    at->index = count, busy--;                                                         \
                }                                                                                      \
            }                                                                                          \
        } while (busy || begun < count);                                                               \
    }

DEFINE(sha256_of_8, 8, "avx2")
DEFINE(sha256_of_16, 16, "avx512f,avx512bw")

/* How many messages go through together on this processor; 0 where hashing one by one is as good. */
int salus_sha256_lanes(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        return 16;
    return __builtin_cpu_supports("avx2") ? 8 : 0;
}

/* Write SHA-256(prefix || data[places[i]..places[i + 1]]) to out[32 i..] for each i below count.
   Return 0, or -1 with nothing done if the places go backwards or beyond the data. The number in the name
   changes with the arguments, so that hashing.py does without a library that was left by another version. */
int salus_sha256_many_2(const uint8_t *prefix, uint64_t prefix_size, const uint8_t *data,
                        uint64_t data_size, const uint64_t *places, uint64_t count, uint8_t *out) {
    for (uint64_t i = 0; i < count; i++)
        if (places[i] > places[i + 1] || places[i + 1] > data_size)
            return -1;
    if (count == 0)
        return 0;
    if (salus_sha256_lanes() == 16)
        sha256_of_16(prefix, prefix_size, data, places, count, out);
    else
        sha256_of_8(prefix, prefix_size, data, places, count, out);
    return 0;
}
