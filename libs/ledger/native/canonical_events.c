/* Reads events that are written as encoders write them: the attributes in their order, no space between tokens,
   nothing but printable ASCII, nothing escaped but quotation marks in a QUOTING. What such an event of a type may be is compiled, from the type's
   own definition, into a program of few kinds of steps (salus.events.canonical, the one caller). An event that a
   program comes through certainly is valid; nothing is said of another, which is then read the long way. */

#include <stdint.h>
#include <string.h>

#include "rfc3339.h"

#define DIGITS_MAX 15 /* so that a number is below 2^53 */
#define NAME_MAX 256

/* Steps; `a`, `b` and `c` are what the comments say. The program is the caller's own and is not checked. */
enum {
    LITERAL,  /* literals[a..a + b] */
    RUN,      /* from b to c characters of class a, as many as there are; the next step sees what follows */
    MARK,     /* here a span begins or ends: its place is kept as spans[a] */
    SAME,     /* the span from spans[a] to here is the one from spans[b] to spans[c] */
    TIME,     /* RFC 3339 in UTC, in quotes; if a, it is the event's */
    NUMBER,   /* an integer, not negative */
    ONE_OF,   /* one of the b literals of the next steps */
    OPTIONAL, /* literals[a..a + b] and what follows, or neither: then c steps are left out */
    LIST,     /* [...] of a to b elements, each of the c steps that follow */
    TYPE,     /* a type's name: its program follows, and then nothing */
    QUOTING,  /* up to b characters of class a, and quotation marks, each behind a backslash, in quotes */
};
typedef struct {
    uint32_t what, a, b, c;
} Step;
/* A type: its name is literals[name..name + name_size], its program steps[first..first + count]. */
typedef struct {
    uint32_t name, name_size, first, count;
} Type;
typedef struct {
    const Step *steps;
    const uint16_t *classes; /* for each byte, a bit for each class that it belongs to */
    const Type *types;
    uint64_t types_count;
    const uint8_t *literals;
} Program;
/* What is learned of one event; spans are counted from the event's beginning. */
typedef struct {
    const uint8_t *begin, *end;
    uint64_t *spans;
    int64_t time;
    uint32_t type;
} Event;

static const uint8_t *after_literal(const uint8_t *at, const Event *event, const uint8_t *literal, uint64_t size) {
    return (uint64_t)(event->end - at) >= size && !memcmp(at, literal, size) ? at + size : NULL;
}

static const uint8_t *after_run(const uint8_t *at, const Event *event, const Program *program, const Step *step) {
    const uint8_t *from = at, *end = (uint64_t)(event->end - at) > step->c ? at + step->c : event->end;
    const uint16_t class = (uint16_t)(1u << step->a), *of = program->classes;
    while (end - at >= 8 &&
           of[at[0]] & of[at[1]] & of[at[2]] & of[at[3]] & of[at[4]] & of[at[5]] & of[at[6]] & of[at[7]] & class)
        at += 8;
    while (at < end && of[*at] & class)
        at++;
    return (uint64_t)(at - from) >= step->b ? at : NULL;
}

static const uint8_t *after_quoting(const uint8_t *at, const Event *event, const Program *program, const Step *step) {
    const uint16_t class = (uint16_t)(1u << step->a);
    if (at == event->end || *at++ != '"')
        return NULL;
    for (uint32_t left = step->b;; left--) {
        if (at == event->end)
            return NULL;
        if (*at == '"')
            return at + 1;
        if (!left)
            return NULL;
        if (*at == '\\') {
            if (event->end - at < 2 || at[1] != '"')
                return NULL;
            at += 2;
        } else if (program->classes[*at] & class)
            at++;
        else
            return NULL;
    }
}

static const uint8_t *after_time(const uint8_t *at, Event *event, int is_events) {
    const uint8_t *text = at + 1;
    int64_t time;
    if (at == event->end || *at != '"')
        return NULL;
    const uint8_t *quote = memchr(text, '"', (uint64_t)(event->end - text));
    if (!quote || !read_time(text, (uint64_t)(quote - text), &time))
        return NULL;
    if (is_events)
        event->time = time;
    return quote + 1;
}

static const uint8_t *after_number(const uint8_t *at, const Event *event) {
    const uint8_t *from = at;
    while (at < event->end && *at >= '0' && *at <= '9')
        at++;
    return at == from || at - from > DIGITS_MAX || (*from == '0' && at - from > 1) ? NULL : at;
}

static const uint8_t *after_one_of(const uint8_t *at, const Event *event, const Program *program, const Step *steps,
                                   uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *after = after_literal(at, event, program->literals + steps[i].a, steps[i].b);
        if (after)
            return after;
    }
    return NULL;
}

/* Take the name up to its closing quote, which stays; the type of the event before is tried first. */
static const uint8_t *after_type(const uint8_t *at, Event *event, const Program *program) {
    uint64_t left = (uint64_t)(event->end - at);
    const uint8_t *quote = memchr(at, '"', left < NAME_MAX ? left : NAME_MAX);
    if (!quote)
        return NULL;
    uint64_t size = (uint64_t)(quote - at);
    for (uint32_t tried = 0; tried < program->types_count; tried++) {
        const Type *type = &program->types[event->type];
        if (type->name_size == size && !memcmp(program->literals + type->name, at, size))
            return quote;
        event->type = (event->type + 1) % program->types_count;
    }
    return NULL;
}

static const uint8_t *after_steps(const uint8_t *at, Event *event, const Program *program, const Step *step,
                                  const Step *last);

static const uint8_t *after_list(const uint8_t *at, Event *event, const Program *program, const Step *step) {
    uint32_t length = 0;
    if (at == event->end || *at++ != '[')
        return NULL;
    if (at < event->end && *at == ']')
        return step->a == 0 ? at + 1 : NULL;
    for (;;) {
        at = after_steps(at, event, program, step + 1, step + 1 + step->c);
        if (!at || at == event->end || ++length > step->b)
            return NULL;
        if (*at == ']')
            return length >= step->a ? at + 1 : NULL;
        if (*at++ != ',')
            return NULL;
    }
}

/* Return where these steps lead to from here, NULL if the event is not as they say. */
static const uint8_t *after_steps(const uint8_t *at, Event *event, const Program *program, const Step *step,
                                  const Step *last) {
    for (; at && step < last; step++) {
        switch (step->what) {
        case LITERAL:
            at = after_literal(at, event, program->literals + step->a, step->b);
            break;
        case RUN:
            at = after_run(at, event, program, step);
            break;
        case MARK:
            event->spans[step->a] = (uint64_t)(at - event->begin);
            break;
        case SAME: {
            const uint64_t *spans = event->spans;
            uint64_t size = (uint64_t)(at - event->begin) - spans[step->a];
            if (size != spans[step->c] - spans[step->b] ||
                memcmp(event->begin + spans[step->a], event->begin + spans[step->b], size))
                return NULL;
            break;
        }
        case TIME:
            at = after_time(at, event, step->a == 1);
            break;
        case NUMBER:
            at = after_number(at, event);
            break;
        case ONE_OF:
            at = after_one_of(at, event, program, step + 1, step->b);
            step += step->b;
            break;
        case OPTIONAL: {
            const uint8_t *after = after_literal(at, event, program->literals + step->a, step->b);
            if (after)
                at = after;
            else
                step += step->c;
            break;
        }
        case LIST:
            at = after_list(at, event, program, step);
            step += step->c;
            break;
        case TYPE:
            at = after_type(at, event, program);
            if (at) {
                const Type *type = &program->types[event->type];
                at = after_steps(at, event, program, program->steps + type->first,
                                 program->steps + type->first + type->count);
            }
            break;
        case QUOTING:
            at = after_quoting(at, event, program, step);
            break;
        default:
            return NULL;
        }
    }
    return at;
}

/* Read events[places[i]..places[i + 1]] for each i below count. Where the program of its first `opening` steps
   comes through, types[i] is the type's number, spans[marks i..] are the places that were marked, counted from
   the beginning of all events, and times[i] the event's time in microseconds since 1970; else types[i] is -1
   and the others are 0.
   Return 0, or -1 with nothing done if the places go backwards or beyond the events. The number in the name
   changes with the arguments. */
int salus_canonical_events_1(const Program *program, uint64_t opening, const uint8_t *events, uint64_t size,
                             const uint64_t *places, uint64_t count, uint64_t marks, int32_t *types,
                             uint64_t *spans, int64_t *times) {
    Event event = {.type = 0};
    for (uint64_t i = 0; i < count; i++)
        if (places[i] > places[i + 1] || places[i + 1] > size)
            return -1;
    for (uint64_t i = 0; i < count; i++) {
        event.begin = events + places[i];
        event.end = events + places[i + 1];
        event.spans = spans + marks * i;
        const uint8_t *after = after_steps(event.begin, &event, program, program->steps, program->steps + opening);
        int is_certain = after && after == event.end;
        types[i] = is_certain ? (int32_t)event.type : -1;
        times[i] = is_certain ? event.time : 0;
        for (uint64_t mark = 0; mark < marks; mark++)
            event.spans[mark] = is_certain ? event.spans[mark] + places[i] : 0;
    }
    return 0;
}
