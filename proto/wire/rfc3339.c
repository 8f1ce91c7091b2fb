#include "proto/wire/rfc3339.h"

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar, counted in eras of 400 years that
 * start on 1 March, so that the leap day is the last of its year. */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void date_of(int64_t days, int64_t *ret_year, int64_t *ret_month, int64_t *ret_day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153; /* 0 is March */
    *ret_day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *ret_month = shifted + (shifted < 10 ? 3 : -9);
    *ret_year = year_of_era + era * 400 + (*ret_month <= 2);
}

enum { DAY_MS = 86400000 };
static const int64_t MIN_MS = INT64_C(-62167219200000); /* 0000-01-01T00:00:00.000Z */
static const int64_t MAX_MS = INT64_C(253402300799999); /* 9999-12-31T23:59:59.999Z */

static char *put_digits(char *at, int64_t number, int digits) {
    for (int i = digits - 1; i >= 0; i--) {
        at[i] = (char)('0' + number % 10);
        number /= 10;
    }
    return at + digits;
}

void stet_rfc3339_text(int64_t wall_ms, char ret_text[STET_RFC3339_SIZE]) {
    if (wall_ms < MIN_MS)
        wall_ms = MIN_MS;
    if (wall_ms > MAX_MS)
        wall_ms = MAX_MS;
    int64_t days = wall_ms / DAY_MS, ms = wall_ms % DAY_MS;
    if (ms < 0) {
        ms += DAY_MS;
        days--;
    }
    int64_t year, month, day;
    date_of(days, &year, &month, &day);
    char *at = put_digits(ret_text, year, 4);
    *at++ = '-';
    at = put_digits(at, month, 2);
    *at++ = '-';
    at = put_digits(at, day, 2);
    *at++ = 'T';
    at = put_digits(at, ms / 3600000, 2);
    *at++ = ':';
    at = put_digits(at, ms / 60000 % 60, 2);
    *at++ = ':';
    at = put_digits(at, ms / 1000 % 60, 2);
    *at++ = '.';
    at = put_digits(at, ms % 1000, 3);
    *at++ = 'Z';
    *at = 0;
}

/* Takes exactly `digits` digits. */
static bool take_number(stet_str *rest, size_t digits, int64_t *ret) {
    if (rest->size < digits)
        return false;
    int64_t n = 0;
    for (size_t i = 0; i < digits; i++) {
        char c = rest->data[i];
        if (c < '0' || c > '9')
            return false;
        n = n * 10 + (c - '0');
    }
    rest->data += digits;
    rest->size -= digits;
    *ret = n;
    return true;
}

static bool take_one_of(stet_str *rest, const char *choices) {
    if (rest->size == 0 || rest->data[0] == 0 || strchr(choices, rest->data[0]) == NULL)
        return false;
    rest->data++;
    rest->size--;
    return true;
}

/* ".123456": milliseconds, further digits cut. */
static bool take_fraction(stet_str *rest, int64_t *ret_ms) {
    *ret_ms = 0;
    if (!take_one_of(rest, "."))
        return true;
    int64_t digit, scale = 100;
    if (rest->size == 0 || rest->data[0] < '0' || rest->data[0] > '9')
        return false;
    while (take_number(rest, 1, &digit)) {
        *ret_ms += digit * scale;
        scale /= 10;
    }
    return true;
}

static bool take_offset(stet_str *rest, int64_t *ret_minutes) {
    *ret_minutes = 0;
    if (take_one_of(rest, "Zz"))
        return true;
    bool behind = rest->size > 0 && rest->data[0] == '-';
    int64_t hours, minutes;
    if (!take_one_of(rest, "+-") || !take_number(rest, 2, &hours) || !take_one_of(rest, ":") ||
        !take_number(rest, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_minutes = (behind ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

static int64_t days_in_month(int64_t year, int64_t month) {
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

bool stet_rfc3339_parse(stet_str text, int64_t *ret_wall_ms) {
    int64_t year, month, day, hour, minute, second, ms, offset;
    if (!take_number(&text, 4, &year) || !take_one_of(&text, "-") || !take_number(&text, 2, &month) ||
        !take_one_of(&text, "-") || !take_number(&text, 2, &day) || !take_one_of(&text, "Tt ") ||
        !take_number(&text, 2, &hour) || !take_one_of(&text, ":") || !take_number(&text, 2, &minute) ||
        !take_one_of(&text, ":") || !take_number(&text, 2, &second) || !take_fraction(&text, &ms) ||
        !take_offset(&text, &offset) || text.size != 0)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 ||
        second > 60)
        return false;
    int64_t time_of_day = (hour * 60 + minute - offset) * 60000 + (second == 60 ? 59999 : second * 1000 + ms);
    if (second == 60 && ((time_of_day % DAY_MS + DAY_MS) % DAY_MS) != DAY_MS - 1)
        return false; /* a leap second is the last of a day in UTC */
    *ret_wall_ms = days_of(year, month, day) * DAY_MS + time_of_day;
    return true;
}
