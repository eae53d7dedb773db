/* Times as events have them (RFC 3339), for the libraries of this folder. */

#include <stdint.h>

/* The number of so many digits, -1 if something else is there. */
static int64_t digits(const uint8_t *at, int count) {
    int64_t number = 0;
    for (int i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9')
            return -1;
        number = 10 * number + at[i] - '0';
    }
    return number;
}

/* YYYY-MM-DDThh:mm:ss[.f{1,6}]Z of 1900 to 9998, in microseconds since 1970; 0 if it is not certainly one:
   the other forms of salus.ledger.times are read there. */
static int read_time(const uint8_t *at, uint64_t size, int64_t *microseconds) {
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (size < 20 || size > 27 || size == 21 || at[4] != '-' || at[7] != '-' || at[10] != 'T' || at[13] != ':' ||
        at[16] != ':' || at[size - 1] != 'Z' || (size > 20 && at[19] != '.'))
        return 0;
    int64_t year = digits(at, 4), month = digits(at + 5, 2), day = digits(at + 8, 2);
    int64_t hour = digits(at + 11, 2), minute = digits(at + 14, 2), second = digits(at + 17, 2);
    int places = size > 20 ? (int)size - 21 : 0;
    int64_t fraction = digits(at + 20, places);
    int leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (year < 1900 || year > 9998 || month < 1 || month > 12 || day < 1 || day > lengths[month - 1] + (leap && month == 2) ||
        hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 || fraction < 0)
        return 0;
    for (; places < 6; places++)
        fraction *= 10;
    /* Days since 1 March of year 0, and from there to 1970. */
    int64_t from = year - (month < 3), shifted = month < 3 ? month + 9 : month - 3;
    int64_t days = 365 * from + from / 4 - from / 100 + from / 400 + (153 * shifted + 2) / 5 + day - 1 - 719468;
    *microseconds = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + fraction;
    return 1;
}
