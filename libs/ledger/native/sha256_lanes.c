/* SHA-256 (FIPS 180-4) of many messages at once, one message in each lane of a vector register.

   A processor without SHA instructions hashes one message at a time with a small part of its width; here
   8 (AVX2) or 16 (AVX-512) messages go through the same rounds together. The one caller is
   salus.ledger.hashing, which checks the arguments and, where this library is missing, uses hashlib. */

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 64
#define DIGEST 32
#ifndef LANES_MAX /* tests compile the narrower function for a processor that has the wider one */
#define LANES_MAX 16
#endif

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

/* The messages' bodies: data[places[i]..places[i + 1]] each, or apart from each other where there are no places. */
typedef struct {
    const uint8_t *data;
    const uint64_t *places;
    const uint8_t *const *starts;
    const uint64_t *sizes;
    uint64_t count;
} Bodies;

/* What all messages begin with: blocks of it alone, and the rest, which shares a block with the body. */
typedef struct {
    const uint8_t *whole;
    uint64_t whole_size, rest_size;
    uint8_t rest[BLOCK]; /* and zeros */
} Prefix;

/* The message in one lane: prefix || body, how much of it was handed out, and room for its first and its last
   blocks, which do not lie in memory as they are hashed. */
typedef struct {
    const uint8_t *body;
    uint64_t body_size, size, done;
    uint64_t index;
    uint8_t own[4 * BLOCK];
} Lane;

#define ENDED UINT64_MAX
#define INLINE static inline __attribute__((always_inline))

static void begin(Lane *lane, uint64_t index, const Prefix *prefix, const Bodies *bodies) {
    if (bodies->places) {
        lane->body = bodies->data + bodies->places[index];
        lane->body_size = bodies->places[index + 1] - bodies->places[index];
    } else {
        lane->body = bodies->starts[index];
        lane->body_size = bodies->sizes[index];
    }
    lane->size = prefix->whole_size + prefix->rest_size + lane->body_size;
    lane->done = 0;
    lane->index = index;
}

/* Pad what ends `used` bytes after `from` (zeros follow) and return the number of its blocks. */
INLINE uint64_t pad(Lane *lane, uint8_t *from, uint64_t used) {
    uint64_t count = (used + 8) / BLOCK + 1, bits = __builtin_bswap64(lane->size * 8);
    from[used] = 0x80;
    memcpy(from + count * BLOCK - 8, &bits, 8);
    lane->done = ENDED;
    return count;
}

/* Return how many blocks of the message come next in one piece, and where it is; 0 after the last.
   Copies are of a whole block where they can be: in the caller's registers those are a few instructions. */
INLINE uint64_t next_run(Lane *lane, const Prefix *prefix, const uint8_t **run) {
    const uint8_t *body = lane->body;
    uint64_t rest = prefix->rest_size, done = lane->done;
    if (done == ENDED)
        return 0;
    if (done < prefix->whole_size) {
        *run = prefix->whole;
        lane->done = prefix->whole_size;
        return prefix->whole_size / BLOCK;
    }
    *run = lane->own;
    if (lane->body_size < BLOCK) {
        memcpy(lane->own, prefix->rest, BLOCK);
        memset(lane->own + BLOCK, 0, 2 * BLOCK);
        if (lane->body_size)
            memcpy(lane->own + rest, body, lane->body_size);
        return pad(lane, lane->own, rest + lane->body_size);
    }
    if (done == prefix->whole_size && rest) {
        memcpy(lane->own, prefix->rest, BLOCK);
        memcpy(lane->own + rest, body, BLOCK);
        lane->done += BLOCK;
        return 1;
    }
    uint64_t straight = (lane->size - done) / BLOCK, left = (lane->size - done) % BLOCK;
    if (straight) {
        *run = body + (done - prefix->whole_size - rest);
        lane->done += straight * BLOCK;
        return straight;
    }
    /* Of the body's last 64 bytes those that are left come to stand after the first block of room. */
    memset(lane->own + BLOCK, 0, 2 * BLOCK);
    memcpy(lane->own + left, body + (lane->body_size - BLOCK), BLOCK);
    *run = lane->own + BLOCK;
    return pad(lane, lane->own + BLOCK, left);
}

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw")))
typedef uint32_t Words8 __attribute__((vector_size(32)));
typedef uint32_t Words16 __attribute__((vector_size(64)));

/* The functions of the standard: AVX-512 does any of three operands in one instruction. */
#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define XOR_8(x, y, z) ((x) ^ (y) ^ (z))
#define CHOOSE_8(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MAJORITY_8(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))
#define TERNARY(x, y, z, table) \
    ((Words16)_mm512_ternarylogic_epi32((__m512i)(x), (__m512i)(y), (__m512i)(z), table))
#define XOR_16(x, y, z) TERNARY(x, y, z, 0x96)
#define CHOOSE_16(x, y, z) TERNARY(x, y, z, 0xca)
#define MAJORITY_16(x, y, z) TERNARY(x, y, z, 0xe8)

/* Word t of each lane's block, most significant byte first, into w[t]: a matrix of 8 by 16 words, turned.
   Each step doubles the number of blocks of which a register has the same words. */
AVX2 static inline void words_of_8(Words8 w[16], const uint8_t *const blocks[8]) {
    const __m256i swap = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
    for (int half = 0; half < 16; half += 8) {
        __m256i one[8], two[8], four[8];
        for (int i = 0; i < 8; i++)
            one[i] = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(blocks[i] + 4 * half)), swap);
        for (int i = 0; i < 8; i += 2) {
            two[i] = _mm256_unpacklo_epi32(one[i], one[i + 1]);
            two[i + 1] = _mm256_unpackhi_epi32(one[i], one[i + 1]);
        }
        for (int i = 0; i < 8; i += 4)
            for (int j = 0; j < 2; j++) {
                four[i + 2 * j] = _mm256_unpacklo_epi64(two[i + j], two[i + j + 2]);
                four[i + 2 * j + 1] = _mm256_unpackhi_epi64(two[i + j], two[i + j + 2]);
            }
        for (int i = 0; i < 4; i++) {
            w[half + i] = (Words8)_mm256_permute2x128_si256(four[i], four[i + 4], 0x20);
            w[half + i + 4] = (Words8)_mm256_permute2x128_si256(four[i], four[i + 4], 0x31);
        }
    }
}

AVX512 static inline void words_of_16(Words16 w[16], const uint8_t *const blocks[16]) {
    const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
    __m512i one[16], two[16], four[16], eight[16];
    for (int i = 0; i < 16; i++)
        one[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(blocks[i]), swap);
    for (int i = 0; i < 16; i += 2) {
        two[i] = _mm512_unpacklo_epi32(one[i], one[i + 1]);
        two[i + 1] = _mm512_unpackhi_epi32(one[i], one[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            four[i + 2 * j] = _mm512_unpacklo_epi64(two[i + j], two[i + j + 2]);
            four[i + 2 * j + 1] = _mm512_unpackhi_epi64(two[i + j], two[i + j + 2]);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            eight[i + j] = _mm512_shuffle_i32x4(four[i + j], four[i + j + 4], 0x44);
            eight[i + j + 4] = _mm512_shuffle_i32x4(four[i + j], four[i + j + 4], 0xee);
        }
    for (int i = 0; i < 8; i++) {
        int t = i < 4 ? i : i + 4;
        w[t] = (Words16)_mm512_shuffle_i32x4(eight[i], eight[i + 8], 0x88);
        w[t + 4] = (Words16)_mm512_shuffle_i32x4(eight[i], eight[i + 8], 0xdd);
    }
}

/* One round; instead of moving the eight words on, the next round names them shifted by one. */
#define ROUND(L, a, b, c, d, e, f, g, h, i)                                                            \
    h += w[i] + K[t + i] + CHOOSE_##L(e, f, g) + XOR_##L(ROTATE(e, 6), ROTATE(e, 11), ROTATE(e, 25));   \
    d += h;                                                                                            \
    h += MAJORITY_##L(a, b, c) + XOR_##L(ROTATE(a, 2), ROTATE(a, 13), ROTATE(a, 22));
#define EIGHT_ROUNDS(L, i)                                                                             \
    ROUND(L, a, b, c, d, e, f, g, h, i)                                                                \
    ROUND(L, h, a, b, c, d, e, f, g, i + 1)                                                            \
    ROUND(L, g, h, a, b, c, d, e, f, i + 2)                                                            \
    ROUND(L, f, g, h, a, b, c, d, e, i + 3)                                                            \
    ROUND(L, e, f, g, h, a, b, c, d, i + 4)                                                            \
    ROUND(L, d, e, f, g, h, a, b, c, i + 5)                                                            \
    ROUND(L, c, d, e, f, g, h, a, b, i + 6)                                                            \
    ROUND(L, b, c, d, e, f, g, h, a, i + 7)
/* The message schedule: word i + 16 takes the place of word i. */
#define EXPAND(L, i)                                                                                   \
    w[i] += w[(i + 9) & 15] +                                                                          \
            XOR_##L(ROTATE(w[(i + 1) & 15], 7), ROTATE(w[(i + 1) & 15], 18), w[(i + 1) & 15] >> 3) +   \
            XOR_##L(ROTATE(w[(i + 14) & 15], 17), ROTATE(w[(i + 14) & 15], 19), w[(i + 14) & 15] >> 10);
#define EXPAND_FOUR(L, i) EXPAND(L, i) EXPAND(L, i + 1) EXPAND(L, i + 2) EXPAND(L, i + 3)

/* One function for each width: the compiler turns the vector type into what the target has. */
#define DEFINE(L, TARGET)                                                                              \
    /* Let each lane's state, s[..][lane], take in `count` blocks, and leave blocks[lane] after them. */ \
    TARGET static void absorb_##L(Words##L s[8], const uint8_t *blocks[L], uint64_t count) {           \
        Words##L a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7], w[16]; \
        for (; count; count--) {                                                                       \
            words_of_##L(w, blocks);                                                                   \
            for (int t = 0;; t += 16) {                                                                \
                EIGHT_ROUNDS(L, 0)                                                                     \
                EIGHT_ROUNDS(L, 8)                                                                     \
                if (t == 48)                                                                           \
                    break;                                                                             \
                EXPAND_FOUR(L, 0) EXPAND_FOUR(L, 4) EXPAND_FOUR(L, 8) EXPAND_FOUR(L, 12)               \
            }                                                                                          \
            s[0] = a += s[0], s[1] = b += s[1], s[2] = c += s[2], s[3] = d += s[3];                    \
            s[4] = e += s[4], s[5] = f += s[5], s[6] = g += s[6], s[7] = h += s[7];                    \
            for (int lane = 0; lane < L; lane++)                                                       \
                blocks[lane] += BLOCK;                                                                 \
        }                                                                                              \
    }                                                                                                  \
    TARGET static void hash_##L(const Prefix *prefix, const Bodies *bodies, uint8_t *out) {            \
        static const uint8_t idle[BLOCK];                                                              \
        Lane lanes[L];                                                                                 \
        Words##L s[8];                                                                                 \
        const uint8_t *blocks[L];                                                                      \
        uint64_t left[L] = {0}, begun = 0, busy = 0, count = bodies->count;                            \
        for (int lane = 0; lane < L; lane++)                                                           \
            lanes[lane].index = count;                                                                 \
        for (;;) {                                                                                     \
            uint64_t together = UINT64_MAX;                                                            \
            for (int lane = 0; lane < L; lane++) {                                                     \
                Lane *at = &lanes[lane];                                                               \
                if (!left[lane] && at->index < count) {                                                \
                    left[lane] = next_run(at, prefix, &blocks[lane]);                                  \
                    if (!left[lane]) {                                                                 \
                        uint32_t *words = (uint32_t *)s + lane;                                        \
                        for (int i = 0; i < 8; i++) {                                                  \
                            uint32_t word = __builtin_bswap32(words[L * i]);                           \
                            memcpy(out + DIGEST * at->index + 4 * i, &word, 4);                        \
                        }                                                                              \
                        at->index = count, busy--;                                                     \
                    }                                                                                  \
                }                                                                                      \
                if (!left[lane] && begun < count) {                                                    \
                    begin(at, begun, prefix, bodies);                                                  \
                    begun++, busy++;                                                                   \
                    for (int i = 0; i < 8; i++)                                                        \
                        s[i][lane] = START[i];                                                         \
                    left[lane] = next_run(at, prefix, &blocks[lane]);                                  \
                }                                                                                      \
                if (!left[lane])                                                                       \
                    blocks[lane] = idle, left[lane] = 1;                                               \
                together = left[lane] < together ? left[lane] : together;                              \
            }                                                                                          \
            if (!busy)                                                                                 \
                return;                                                                                \
            absorb_##L(s, blocks, together);                                                           \
            for (int lane = 0; lane < L; lane++)                                                       \
                left[lane] -= together;                                                                \
        }                                                                                              \
    }

DEFINE(8, AVX2)
DEFINE(16, AVX512)

/* How many messages go through together on this processor; 0 where hashing one by one is as good. */
int salus_sha256_lanes(void) {
    __builtin_cpu_init();
    if (LANES_MAX == 16 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        return 16;
    return __builtin_cpu_supports("avx2") ? 8 : 0;
}

static void hash(const uint8_t *prefix, uint64_t prefix_size, const Bodies *bodies, uint8_t *out) {
    Prefix before = {.whole = prefix, .rest_size = prefix_size % BLOCK};
    before.whole_size = prefix_size - before.rest_size;
    if (before.rest_size)
        memcpy(before.rest, prefix + before.whole_size, before.rest_size);
    if (salus_sha256_lanes() == 16)
        hash_16(&before, bodies, out);
    else
        hash_8(&before, bodies, out);
}

/* Write SHA-256(prefix || data[places[i]..places[i + 1]]) to out[32 i..] for each i below count.
   Return 0, or -1 with nothing done if the places go backwards or beyond the data. The number in the name
   changes with the arguments, so that hashing.py does without a library that was left by another version. */
int salus_sha256_many_2(const uint8_t *prefix, uint64_t prefix_size, const uint8_t *data,
                        uint64_t data_size, const uint64_t *places, uint64_t count, uint8_t *out) {
    for (uint64_t i = 0; i < count; i++)
        if (places[i] > places[i + 1] || places[i + 1] > data_size)
            return -1;
    Bodies bodies = {.data = data, .places = places, .count = count};
    hash(prefix, prefix_size, &bodies, out);
    return 0;
}

/* The same of messages that lie apart from each other: starts[i] is where one begins that has sizes[i] bytes. */
void salus_sha256_apart_1(const uint8_t *prefix, uint64_t prefix_size, const uint8_t *const *starts,
                          const uint64_t *sizes, uint64_t count, uint8_t *out) {
    Bodies bodies = {.starts = starts, .sizes = sizes, .count = count};
    hash(prefix, prefix_size, &bodies, out);
}
