/* Says where the parts of the records of a Kafka record batch (format v2, KIP-98) lie. The one caller is
   salus.ledger.record_batches, which has the same in Python; what is refused here is unreadable for everybody. */

#include <stdint.h>
#include <string.h>

enum {
    HEADER_BYTES = 61,
    LENGTH_AT = 8,
    MAGIC_AT = 16,
    ATTRIBUTES_AT = 21,
    LAST_DELTA_AT = 23,
    BASE_TIMESTAMP_AT = 27,
    MAX_TIMESTAMP_AT = 35,
    COUNT_AT = 57,
    MAGIC = 2,
    COMPRESSION_OR_CONTROL = 0x27,
    LOG_APPEND_TIME = 0x08,
    LENGTH_BYTES_MAX = 5,
    TIMESTAMP_BYTES_MAX = 10,
    /* The numbers of salus.ledger.records. */
    STRIDE = 8,
    KEY = 0,
    VALUE = 2,
    HEADERS = 4,
    NONE = -1,
};

static const struct {
    const char *name;
    int64_t size;
} names[] = {{"salus-signature", 15}, {"traceparent", 11}};

/* Where we are in `data`, and before which place we must stay. */
typedef struct {
    const uint8_t *data;
    uint64_t at;
    uint64_t end;
} Place;

static uint64_t big_endian(const uint8_t *at, int size) {
    uint64_t number = 0;
    for (int i = 0; i < size; i++)
        number = number << 8 | at[i];
    return number;
}

/* Read a zigzag number of at most `bytes_max` bytes, of which the first 64 bits count; return whether there is one. */
static int read_number(Place *place, int bytes_max, int64_t *number) {
    uint64_t found = 0;
    for (int i = 0; i < bytes_max && place->at < place->end; i++) {
        uint8_t byte = place->data[place->at++];
        found |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *number = (int64_t)(found >> 1) ^ -(int64_t)(found & 1);
            return 1;
        }
    }
    return 0;
}

/* Read a length and pass over so many bytes, which become the span; a length of -1 stands for none. */
static int read_part(Place *place, int64_t *span) {
    int64_t size;
    if (!read_number(place, LENGTH_BYTES_MAX, &size) || size < NONE)
        return 0;
    if (size == NONE) {
        span[0] = span[1] = NONE;
        return 1;
    }
    if ((uint64_t)size > place->end - place->at)
        return 0;
    span[0] = (int64_t)place->at;
    place->at += (uint64_t)size;
    span[1] = (int64_t)place->at;
    return 1;
}

/* Read all headers of a record, for which there is `room`; of those with the same name the last one counts. */
static int read_headers(Place *place, uint64_t *room, int64_t *spans) {
    int64_t count, name[2], value[2];
    for (int i = HEADERS; i < STRIDE; i++)
        spans[i] = NONE;
    if (!read_number(place, LENGTH_BYTES_MAX, &count) || count < 0 || (uint64_t)count > *room)
        return 0;
    *room -= (uint64_t)count;
    for (; count > 0; count--) {
        if (!read_part(place, name) || name[0] == NONE || !read_part(place, value))
            return 0;
        for (int i = 0; i < (STRIDE - HEADERS) / 2; i++)
            if (name[1] - name[0] == names[i].size &&
                !memcmp(place->data + name[0], names[i].name, (size_t)names[i].size))
                memcpy(spans + HEADERS + 2 * i, value, sizeof value);
    }
    return 1;
}

/* salus.ledger.records.timestamp_of: 9999-12-31T00:00:00Z is the last. */
static const int64_t TIMESTAMP_MS_MAX = 253402214400000;

/* Return base + delta, as far as a timestamp may go. */
static int64_t timestamp_of(int64_t base, int64_t delta) {
    int64_t sum;
    if (__builtin_add_overflow(base, delta, &sum))
        return delta < 0 ? 0 : TIMESTAMP_MS_MAX;
    return sum < 0 ? 0 : sum > TIMESTAMP_MS_MAX ? TIMESTAMP_MS_MAX : sum;
}

/* Read one record, which must end where its length says; `timestamp` and `delta` are what it has of its own. */
static int read_record(Place *place, int64_t *timestamp, int64_t *delta, uint64_t *room, int64_t *spans) {
    int64_t size;
    if (!read_number(place, LENGTH_BYTES_MAX, &size) || size < 1 || (uint64_t)size > place->end - place->at)
        return 0;
    Place record = {place->data, place->at, place->at + (uint64_t)size};
    place->at = record.end;
    /* The record's own attributes mean nothing so far. */
    if (record.data[record.at++] >= 0x80)
        return 0;
    return read_number(&record, TIMESTAMP_BYTES_MAX, timestamp) &&
           read_number(&record, LENGTH_BYTES_MAX, delta) && read_part(&record, spans + KEY) &&
           read_part(&record, spans + VALUE) && read_headers(&record, room, spans) && record.at == record.end;
}

/* Write the offsets and timestamps of the `count` records of the batch data[begin..end) and the spans of their
   parts. The time is the batch's, in whose place the broker puts its own (LogAppendTime), or the sender's. Return 0,
   or -1 with nothing said if it is compressed, not of data, not of so many records, if they have more than
   `headers_max` headers together, do not ascend within the offsets that its header gives it, or if anything else is
   odd. */
int salus_unpack_batch_4(const uint8_t *data, uint64_t begin, uint64_t end, uint64_t count, uint64_t headers_max,
                         int64_t *offsets, int64_t *timestamps, int64_t *spans) {
    if (begin > end || end - begin < HEADER_BYTES)
        return -1;
    const uint8_t *header = data + begin;
    uint64_t base = big_endian(header, 8);
    int64_t last = (int64_t)big_endian(header + LAST_DELTA_AT, 4);
    int is_appended = !!(big_endian(header + ATTRIBUTES_AT, 2) & LOG_APPEND_TIME);
    int64_t time = (int64_t)big_endian(header + (is_appended ? MAX_TIMESTAMP_AT : BASE_TIMESTAMP_AT), 8);
    if (big_endian(header + LENGTH_AT, 4) != end - begin - LENGTH_AT - 4 || header[MAGIC_AT] != MAGIC ||
        big_endian(header + ATTRIBUTES_AT, 2) & COMPRESSION_OR_CONTROL ||
        big_endian(header + COUNT_AT, 4) != count || last > INT32_MAX ||
        base > INT64_MAX - UINT32_MAX)
        return -1;
    Place place = {data, begin + HEADER_BYTES, end};
    int64_t before = NONE;
    for (uint64_t i = 0; i < count; i++, spans += STRIDE) {
        int64_t timestamp, delta;
        if (!read_record(&place, &timestamp, &delta, &headers_max, spans) || delta <= before || delta > last)
            return -1;
        offsets[i] = (int64_t)base + delta;
        timestamps[i] = timestamp_of(time, is_appended ? 0 : timestamp);
        before = delta;
    }
    return place.at == end ? 0 : -1;
}
