"""A model as C99 in one file, to compile or to include, without libraries but libm and without the heap.

Where TAPEGPT_MAIN is defined it is a program, and declarations alone where TAPEGPT_HEADER is. Strings and probabilities
are those of the model's own engine where the C library has the same exp, log and pow. Not here: how kernels become C
(`machine/c.py`).
"""

from __future__ import annotations

from array import array
from itertools import groupby

from tapegpt.export.portable import TRIES, name_of, portable
from tapegpt.machine.c import Module, helpers
from tapegpt.machine.target import C
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.export.portable import Portable
    from tapegpt.models.trained import GPT

FEW = 1000  # zeros one after the other that are written; more are left out, which C++ does not take

_HEAD = """\
/* {name}, as C99: strings like those that it was trained on.
 * Written by tapegpt {version}.
 *
 *     cc -std=c99 -O2 -DTAPEGPT_MAIN FILE.c -o FILE -lm && ./FILE 20 SEED PREFIX TEMPERATURE
 *     #include "FILE.c" in one file of a program; others that include it define TAPEGPT_HEADER before
 *
 * The same seed gives the same strings as `tapegpt generate --seed` of the model's file, where the C library's exp, log
 * and pow are the same and the compiler does not fuse a * b + c: pass it -ffp-contract=off, on 32-bit x86 -mfpmath=sse
 * too. Memory is static, so one thread at a time may call. Text is UTF-8; it is split into the longest tokens that fit.
 */
#ifndef TAPEGPT_H
#define TAPEGPT_H

#include <stddef.h>
#include <stdint.h>

#define TAPEGPT_TOKENS {tokens} /* with the end of a string, which is the last */
#define TAPEGPT_BLOCK_SIZE {block} /* tokens of a string with its labels, unless others are requested */
#define TAPEGPT_MAX_LENGTH {room} /* tokens of a string, at most */

/* Start the random numbers anew. Without a call they start with the seed 0. */
void tapegpt_seed(uint64_t seed);

/* Write a string that begins with the prefix ("" for none) to out, with a 0 behind it, and cut it where size bytes end.
 * It has at most max_length tokens, or a block with its labels where that is 0. A higher temperature means more
 * surprising strings; 0 takes the most probable token. Returns its bytes without the 0, also where it was cut; -1 where
 * the prefix has what is no token or is too long, and for what is out of range. */
int tapegpt_generate(char *out, size_t size, const char *prefix, int max_length, double temperature);

/* How surprising a text is: the mean of -log p of its tokens and its end; NAN where it has what is no token or is too
 * long. */
double tapegpt_score(const char *text);

/* The probability of each token behind a prefix, the last one that the string ends. Returns 0, or -1 as above. */
int tapegpt_next(const char *prefix, double probabilities[TAPEGPT_TOKENS]);

/* The text of a token, and its bytes where size is not NULL; that of the end is empty. */
const char *tapegpt_token(int token, size_t *size);

/* For models of strings with labels: the one in a column of all strings from here on, or NULL, which lets generate draw
 * it. What reads takes strings with all labels alone. Returns 0, or -1 where there is no such label. */
int tapegpt_label(const char *column, const char *value);

#endif

#ifndef TAPEGPT_HEADER

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

"""
_BODY = """
static uint64_t tg_memory[{size} / 8];
static int tg_is_ready = 0;
static int64_t tg_labels[TG_COLUMNS + 1]; /* the token of each column, 0 for any */

static unsigned char *tg_begin(void)
{{
    unsigned char *memory = (unsigned char *)tg_memory;
    if (!tg_is_ready) {{
        tg_is_ready = 1;
        memcpy(memory, tg_parameters, sizeof tg_parameters);
        tg_prepare(memory);
        tapegpt_seed(0);
    }}
    return memory;
}}

void tapegpt_seed(uint64_t seed)
{{
    unsigned char *memory = tg_begin();
    tg_store_u32(memory + {key}, (uint32_t)seed);
    tg_store_u32(memory + {key} + 4, (uint32_t)(seed >> 32));
    tg_seed(memory, seed >> 32 ? 2 : 1);
}}

const char *tapegpt_token(int token, size_t *size)
{{
    int is_text = token >= 0 && token < TG_TEXTS;
    if (size) *size = is_text ? tg_tokens[token].size : 0;
    return is_text ? tg_tokens[token].text : "";
}}

int tapegpt_label(const char *column, const char *value)
{{
    for (int place = 0; tg_names[place].column; place++) {{
        if (!strcmp(column, tg_names[place].column) && (!value || !strcmp(value, tg_names[place].value))) {{
            tg_labels[tg_names[place].number] = value ? TG_TEXTS + place : 0;
            return 0;
        }}
    }}
    return -1;
}}

static int64_t tg_id(int64_t position)
{{
    return tg_load_u32((unsigned char *)tg_memory + {ids} + 4 * position);
}}

/* Write labels and the tokens of a text to the memory; how many, or -1. */
static int64_t tg_put(const int64_t *labels, const char *text)
{{
    unsigned char *ids = (unsigned char *)tg_memory + {ids};
    int64_t count = 0;
    size_t left = strlen(text);
    for (; count < TG_COLUMNS; count++) {{
        if (!labels[count]) return -1;
        tg_store_u32(ids + 4 * count, (uint32_t)labels[count]);
    }}
    while (left) {{
        int best = -1;
        for (int token = 0; token < TG_TEXTS; token++) {{
            size_t size = tg_tokens[token].size;
            int is_longer = best < 0 || size > tg_tokens[best].size;
            if (size <= left && is_longer && !memcmp(text, tg_tokens[token].text, size)) best = token;
        }}
        if (best < 0 || count >= TAPEGPT_MAX_LENGTH) return -1;
        tg_store_u32(ids + 4 * count++, (uint32_t)best);
        text += tg_tokens[best].size;
        left -= tg_tokens[best].size;
    }}
    return count;
}}

/* The next string that begins with so many tokens; how many it has. */
static int64_t tg_draw(int64_t given, int64_t longest, double temperature)
{{
    unsigned char *memory = (unsigned char *)tg_memory;
    tg_generate(memory, given, longest, temperature);
    return tg_load_i64(memory + {length});
}}

/* The labels of the next string: those that are set, and others as the model draws them. Returns 0, or -1. */
static int tg_draw_labels(int64_t *labels, double temperature)
{{
    int is_set = 1;
    for (int column = 0; column < TG_COLUMNS; column++) is_set &= (labels[column] = tg_labels[column]) > 0;
    for (int tries = 0; !is_set; tries++) {{
        if (tries == {tries}) return -1;
        is_set = tg_draw(0, TG_COLUMNS, temperature) == TG_COLUMNS;
        for (int column = 0; is_set && column < TG_COLUMNS; column++) {{
            labels[column] = tg_id(column);
            is_set = labels[column] >= TG_TEXTS && tg_names[labels[column] - TG_TEXTS].number == column
                && (!tg_labels[column] || tg_labels[column] == labels[column]);
        }}
    }}
    return 0;
}}

int tapegpt_generate(char *out, size_t size, const char *prefix, int max_length, double temperature)
{{
    int64_t labels[TG_COLUMNS + 1];
    int64_t longest = max_length ? (int64_t)max_length + TG_COLUMNS : TAPEGPT_BLOCK_SIZE, count = 0;
    size_t written = 0, whole = 0;
    int is_text = 0;
    tg_begin();
    if (size) *out = 0;
    if (longest < TG_COLUMNS || longest > TAPEGPT_MAX_LENGTH) return -1;
    if (!(temperature >= 0.0 && temperature <= 1000.0)) return -1;
    if (temperature < 1e-9) temperature = 1e-9;
    if (tg_draw_labels(labels, temperature)) return -1;
    for (int tries = 0; !is_text; tries++) {{
        int64_t given = tg_put(labels, prefix);
        if (given < 0 || given > longest || tries == {tries}) return -1;
        count = tg_draw(given, longest, temperature);
        is_text = 1;
        for (int64_t position = TG_COLUMNS; position < count; position++) is_text &= tg_id(position) < TG_TEXTS;
    }}
    for (int64_t position = TG_COLUMNS; position < count; position++) {{
        size_t more = 0;
        const char *text = tapegpt_token((int)tg_id(position), &more);
        whole += more;
        for (; more && written + 1 < size; more--) out[written++] = *text++;
    }}
    if (size) out[written] = 0;
    return (int)whole;
}}

double tapegpt_score(const char *text)
{{
    unsigned char *memory = tg_begin();
    int64_t count = tg_put(tg_labels, text);
    double nats = 0.0;
    if (count < 0) return NAN;
    tg_read(memory, count, 0);
    for (int64_t token = TG_COLUMNS; token <= count; token++) nats += tg_load_f64(memory + {surprises} + 8 * token);
    return nats / (double)(count - TG_COLUMNS + 1);
}}

int tapegpt_next(const char *prefix, double probabilities[TAPEGPT_TOKENS])
{{
    unsigned char *memory = tg_begin();
    int64_t count = tg_put(tg_labels, prefix);
    if (count < 0) return -1;
    tg_read(memory, count, 0);
    memory += {rows};
    for (int token = 0; token < TAPEGPT_TOKENS; token++) probabilities[token] = tg_load_f64(memory + 8 * token);
    return 0;
}}

#ifdef TAPEGPT_MAIN
int main(int argc, char **argv)
{{
    static char out[TAPEGPT_BLOCK_SIZE * TG_LONGEST + 1];
    long count = argc > 1 ? strtol(argv[1], NULL, 10) : 20;
    double temperature = argc > 4 ? strtod(argv[4], NULL) : 0.5;
    tapegpt_seed(argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL));
    while (count-- > 0) {{
        int size = tapegpt_generate(out, sizeof out, argc > 3 ? argv[3] : "", 0, temperature);
        if (size < 0) {{
            fputs("the prefix has unknown characters or is too long, or the temperature is not above 0\\n", stderr);
            return 2;
        }}
        fwrite(out, 1, (size_t)size, stdout);
        putchar('\\n');
    }}
    return 0;
}}
#endif

#endif /* TAPEGPT_HEADER */
"""


def export(model: GPT) -> bytes:
    """The file; raises `TapeGPTError` for an ensemble."""
    about, module = portable(model, C), Module(C)
    for name, (kernel, constants) in about.entries.items():
        module.add(kernel, constants, name)
    vocabulary = about.vocabulary
    sizes = {"tokens": vocabulary.size, "block": about.block_size, "room": about.room, "tries": TRIES}
    head = _HEAD.format(name=name_of(model), version=__version__, **sizes)
    code = f"{module}{_BODY.format(size=about.size, **sizes, **about.places)}"
    text = "".join([head, _tables(vocabulary), _parameters(about), helpers(code), code])
    return text.encode("ascii", "backslashreplace")


def _tables(vocabulary: Vocabulary) -> str:
    texts = [text.encode("utf-8", "surrogatepass") for text in vocabulary]
    tokens = "".join([f"    {{{_literal(text)}, {len(text)}}},\n" for text in texts])
    names = "".join(
        [
            f"    {{{_literal(column.encode())}, {_literal(value.encode())}, {number}}},\n"
            for number, (column, values) in enumerate(vocabulary.labels)
            for value in values
        ]
    )
    return (
        f"enum {{ TG_TEXTS = {len(texts)}, TG_COLUMNS = {len(vocabulary.labels)}, "
        f"TG_LONGEST = {max(map(len, texts), default=1)} }};\n\n"
        f"static const struct {{ const char *text; size_t size; }} tg_tokens[] = {{\n{tokens}    {{NULL, 0}}\n}};\n\n"
        "static const struct { const char *column, *value; int number; } tg_names[] = {\n"
        f"{names}    {{NULL, NULL, 0}}\n}};\n\n"
    )


def _literal(text: bytes) -> str:
    plain = [chr(code) if 32 <= code < 127 and chr(code) not in '"\\?' else f"\\{code:03o}" for code in text]
    return f'"{"".join(plain)}"'


def _parameters(about: Portable) -> str:
    """Numbers by their bits; of many zeros none is written."""
    size = 8 if about.engine == "exact" else 4
    bits, texts, place, mark = array("Q" if size == 8 else "I", about.parameters), list[str](), 0, ""
    for is_zero, run in groupby(bits, key=lambda number: not number):
        numbers = [f"0x{number:x}" for number in run]
        place += len(numbers)
        if is_zero and len(numbers) > FEW:
            mark = f"[{place}] = "
        else:
            texts += [mark + numbers[0], *numbers[1:]]
            mark = ""
    rows = [f"    {', '.join(texts[start : start + 6])},\n" for start in range(0, len(texts), 6)]
    return f"static const uint{8 * size}_t tg_parameters[{len(bits)}] = {{\n{''.join(rows)}}};\n\n"
