/* Tells of an Ed25519 signature whether it is certainly valid, by functions of s2n-bignum whose authors proved that
   they compute what they say (s2n_bignum/README.md): half of libsodium's time. Of any other signature nothing is
   concluded. What is valid says salus.ledger.ed25519; the steps are those of AWS-LC's ed25519_verify_s2n_bignum. */

#include <cpuid.h>
#include <stdint.h>
#include <string.h>

#define KEY 32
#define SIGNATURE 64
/* Of longer texts nothing is concluded: for its hash a text is joined with the key. */
#define CERTAIN_TEXT_MAX 8192

extern uint64_t edwards25519_decode(uint64_t point[8], const uint8_t encoded[32]);
extern void edwards25519_encode(uint8_t encoded[32], const uint64_t point[8]);
extern void edwards25519_scalarmuldouble(uint64_t result[8], const uint64_t scalar[4], const uint64_t point[8],
                                         const uint64_t base_scalar[4]);
extern void bignum_mod_n25519(uint64_t result[4], uint64_t words, const uint64_t *number);
extern void bignum_neg_p25519(uint64_t result[4], const uint64_t number[4]);

/* crypto_hash_sha512 of libsodium: 0 if it succeeds. */
typedef int (*Sha512)(unsigned char *digest, const unsigned char *text, unsigned long long size);

/* A key, and -A of the point A that it encodes; `is_sound` if it is one that holds its owner to what it signs. */
typedef struct {
    uint8_t encoded[KEY];
    uint64_t negated[8];
    int is_sound;
} Key;

/* Whether the processor has the instructions of s2n_bignum: BMI2 and ADX, which are leaf 7's bits 8 and 19. */
static int has_instructions(void) {
    uint32_t a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 8 & 1) && (b >> 19 & 1);
}

static int is_below(const uint64_t number[4], const uint64_t bound[4]) {
    for (int i = 3; i >= 0; i--)
        if (number[i] != bound[i])
            return number[i] < bound[i];
    return 0;
}

/* Whether the y of an encoded point is canonical and of no point whose order divides 8: x and -x have the same y. */
static int is_sound(const uint8_t encoded[32]) {
    static const uint64_t prime[4] = {0xffffffffffffffed, ~0ull, ~0ull, ~0ull >> 1};
    static const uint64_t small[5][4] = {
        {0, 0, 0, 0},
        {1, 0, 0, 0},
        {0xffffffffffffffec, ~0ull, ~0ull, ~0ull >> 1},
        {0x4fd84d3d706a17c7, 0x0f67100d760b3cba, 0xc6cc392cfa53202a, 0x7a03ac9277fdc74e},
        {0xb027b2c28f95e826, 0xf098eff289f4c345, 0x3933c6d305acdfd5, 0x05fc536d880238b1},
    };
    uint64_t y[4];
    memcpy(y, encoded, sizeof y);
    y[3] &= ~0ull >> 1;
    for (int i = 0; i < 5; i++)
        if (memcmp(y, small[i], sizeof y) == 0)
            return 0;
    return is_below(y, prime);
}

static void read_key(const uint8_t encoded[KEY], Key *key) {
    memcpy(key->encoded, encoded, KEY);
    key->is_sound = is_sound(encoded) && edwards25519_decode(key->negated, encoded) == 0;
    /* -(x, y) is (-x, y). */
    if (key->is_sound)
        bignum_neg_p25519(key->negated, key->negated);
}

/* 1 if the signature (R, S), which comes before the text, is certainly by the key; else 0. */
static int is_certain(Sha512 sha512, const Key *key, const uint8_t *signed_text, uint64_t size) {
    static const uint64_t order[4] = {0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000};
    uint8_t joined[SIGNATURE + CERTAIN_TEXT_MAX], encoded[32];
    uint64_t scalar[4], challenge[8], result[8];
    if (!key->is_sound || size < SIGNATURE || size > sizeof joined || !is_sound(signed_text))
        return 0;
    memcpy(scalar, signed_text + 32, sizeof scalar);
    if (!is_below(scalar, order))
        return 0;
    /* h is the hash of R, A and the text. */
    memcpy(joined, signed_text, size);
    memcpy(joined + 32, key->encoded, KEY);
    if (sha512((unsigned char *)challenge, joined, size) != 0)
        return 0;
    bignum_mod_n25519(challenge, 8, challenge);
    /* S*B - h*A, without a cofactor, is R, byte for byte. */
    edwards25519_scalarmuldouble(result, challenge, key->negated, scalar);
    edwards25519_encode(encoded, result);
    return memcmp(encoded, signed_text, sizeof encoded) == 0;
}
