/* Verifies many Ed25519 signatures in one call, so that no interpreter lock is taken between two of them. It
   holds no arithmetic of its own: the function that verifies one is libsodium's, and is given. The one caller
   is salus.events.ed25519, which verifies one by one where this library is missing. */

#include <stddef.h>
#include <stdint.h>

#define KEY 32
#define SIGNATURE 64

/* crypto_sign_open of libsodium: 0 if the signature, which comes before the text, is by the key. */
typedef int (*Open)(unsigned char *text, unsigned long long *text_size, const unsigned char *signed_text,
                    unsigned long long size, const unsigned char *key);

/* Write to valid[i] whether keys[32 i..] signed the text data[places[i]..places[i + 1]], whose first 64 bytes
   are the signature. Return 0, or -1 with nothing said: the places go backwards or beyond the data. */
int salus_open_signed_1(Open open, const uint8_t *keys, const uint8_t *data, uint64_t size, const uint64_t *places,
                        uint64_t count, uint8_t *valid) {
    int backwards = 0;
    for (uint64_t i = 0; i < count; i++)
        backwards |= places[i] > places[i + 1];
    if (backwards || places[count] > size)
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t length = places[i + 1] - places[i];
        valid[i] = length >= SIGNATURE && open(NULL, NULL, data + places[i], length, keys + KEY * i) == 0;
    }
    return 0;
}
