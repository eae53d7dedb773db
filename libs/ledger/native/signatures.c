/* Verifies many Ed25519 signatures in one call, so that no interpreter lock is taken between two of them. It
   holds no arithmetic of its own: that is s2n-bignum's, and libsodium's, whose functions are given. The one caller
   is salus.events.ed25519, which verifies one by one where this library is missing. */

#include <stddef.h>
#include <stdint.h>

#include "ed25519.h"

/* crypto_sign_open of libsodium: 0 if the signature, which comes before the text, is by the key. */
typedef int (*Open)(unsigned char *text, unsigned long long *text_size, const unsigned char *signed_text,
                    unsigned long long size, const unsigned char *key);

/* Write to valid[i] whether keys[32 i..] signed the text data[places[i]..places[i + 1]], whose first 64 bytes
   are the signature. Without `open` that is what is certain; else libsodium is asked of what is not. Return how
   many were certain, or -1 with nothing said: the places go backwards or beyond the data. */
int64_t salus_open_signed_2(Sha512 sha512, Open open, const uint8_t *keys, const uint8_t *data, uint64_t size,
                            const uint64_t *places, uint64_t count, uint8_t *valid) {
    int backwards = 0, is_able = has_instructions();
    for (uint64_t i = 0; i < count; i++)
        backwards |= places[i] > places[i + 1];
    if (backwards || places[count] > size)
        return -1;
    int64_t certain = 0;
    Key key;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t length = places[i + 1] - places[i];
        const uint8_t *signed_text = data + places[i];
        /* Few keys sign many, often one after the other. */
        if (is_able && (i == 0 || memcmp(key.encoded, keys + KEY * i, KEY) != 0))
            read_key(keys + KEY * i, &key);
        valid[i] = is_able && is_certain(sha512, &key, signed_text, length);
        certain += valid[i];
        if (!valid[i] && open)
            valid[i] = length >= SIGNATURE && open(NULL, NULL, signed_text, length, keys + KEY * i) == 0;
    }
    return certain;
}
