/* Takes many compact JWS apart: three parts of canonical unpadded base64url, the last of 64 bytes. The one caller is
   salus.events.jws_batch; of a text that is passed over here nothing is concluded. */

#include <stdint.h>
#include <string.h>

#define SIGNATURE 64
#define SIGNATURE_TEXT 86
#define NO_DIGIT 64

/* What a digit of base64url is worth, NO_DIGIT if it is none. */
static uint8_t worth_of[256];

__attribute__((constructor)) static void fill_worth(void) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    memset(worth_of, NO_DIGIT, sizeof worth_of);
    for (uint8_t i = 0; i < 64; i++)
        worth_of[(uint8_t)digits[i]] = i;
}

/* Decode a text into `out`, which has room for size * 3 / 4 bytes; return 0 if it is not the one text of its bytes. */
static int decode(const uint8_t *text, uint64_t size, uint8_t *out) {
    uint8_t stray = 0;
    uint32_t bits = 0;
    if (size % 4 == 1)
        return 0;
    for (; size >= 4; size -= 4, text += 4, out += 3) {
        uint8_t a = worth_of[text[0]], b = worth_of[text[1]], c = worth_of[text[2]], d = worth_of[text[3]];
        stray |= a | b | c | d;
        bits = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | d;
        out[0] = (uint8_t)(bits >> 16), out[1] = (uint8_t)(bits >> 8), out[2] = (uint8_t)bits;
    }
    if (size) {
        uint8_t a = worth_of[text[0]], b = worth_of[text[1]], c = size == 3 ? worth_of[text[2]] : 0;
        stray |= a | b | c;
        bits = (uint32_t)a << 10 | (uint32_t)b << 4 | c >> 2;
        if (size == 3 ? c & 3 : b & 15)
            return 0;
        out[0] = (uint8_t)(bits >> 8);
        if (size == 3)
            out[1] = (uint8_t)bits;
    }
    return !(stray & NO_DIGIT);
}

/* Each of `count` texts is data[spans[stride * i]..spans[stride * i + 1]]. Of one that is as it should be
   header_sizes[i] is the size of its first part, and there is behind the others' in `signed_texts` its signature and
   the text that this is over, as libsodium takes them, and in `payloads` its payload; of another header_sizes[i] is 0
   and nothing is there. Where the i-th ends, ends_signed[i] and ends_payloads[i] say. There must be room for as many
   bytes as the texts have together, in each. Return 0, or -1 with nothing said if a span goes backwards or beyond
   the data. The number in the name changes with the arguments. */
int salus_jws_1(const uint8_t *data, uint64_t size, const uint64_t *spans, uint64_t stride, uint64_t count,
                uint8_t *signed_texts, uint64_t *ends_signed, uint8_t *payloads, uint64_t *ends_payloads,
                uint32_t *header_sizes) {
    uint64_t end_signed = 0, end_payloads = 0;
    for (uint64_t i = 0; i < count; i++)
        if (spans[stride * i] > spans[stride * i + 1] || spans[stride * i + 1] > size)
            return -1;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *text = data + spans[stride * i], *end = data + spans[stride * i + 1];
        const uint8_t *first = memchr(text, '.', (uint64_t)(end - text));
        const uint8_t *last = end - text > SIGNATURE_TEXT ? end - SIGNATURE_TEXT - 1 : NULL;
        header_sizes[i] = 0;
        if (first && last && text < first && first + 1 < last && *last == '.' && first - text < UINT32_MAX) {
            uint64_t size_signed = (uint64_t)(last - text), size_payload = (uint64_t)(last - first - 1);
            uint8_t *out = signed_texts + end_signed;
            /* A dot within the payload is no digit, so there are no more than three parts. */
            if (decode(last + 1, SIGNATURE_TEXT, out) && decode(first + 1, size_payload, payloads + end_payloads)) {
                memcpy(out + SIGNATURE, text, size_signed);
                header_sizes[i] = (uint32_t)(first - text);
                end_signed += SIGNATURE + size_signed;
                end_payloads += size_payload * 3 / 4;
            }
        }
        ends_signed[i] = end_signed;
        ends_payloads[i] = end_payloads;
    }
    return 0;
}
