/* The kernels themselves, compiled once for each width of vectors: LANES floats. See kernels.c.
 *
 * ROWS and OUTER are the rows of results that are kept in registers, by dense convolutions and by their weight gradients. */
typedef float NAME(vec) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t NAME(ints) __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define vec NAME(vec)
#define ints NAME(ints)

INLINE vec NAME(load)(const float *p) { return *(const vec *)p; }
INLINE void NAME(store)(float *p, vec v) { *(vec *)p = v; }
INLINE vec NAME(spread)(float x) { return x - (vec){0}; } /* folded into a broadcast */
INLINE float NAME(total)(vec v) {
#if LANES == 16
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif LANES == 8
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
    return v[0];
}
/* v where mask, else 0. */
INLINE vec NAME(where)(ints mask, vec v) { return (vec)(mask & (ints)v); }

INLINE void NAME(copy)(float *to, const float *from, i64 n) {
    i64 i = 0;
    for (; i + LANES <= n; i += LANES) NAME(store)(to + i, NAME(load)(from + i));
    for (; i + 4 <= n; i += 4) memcpy(to + i, from + i, 16);
    for (; i < n; i++) to[i] = from[i];
}

/* Rows of n numbers, the next one so many numbers further on. Sizes that occur all the time are compiled by themselves. */
INLINE void NAME(copy_rows)(float *restrict to, i64 to_step, const float *restrict from, i64 from_step, i64 n, i64 rows) {
    switch (n) {
#define CASE(size) case size: for (i64 y = 0; y < rows; y++) memcpy(to + y * to_step, from + y * from_step, 4 * size); return;
        CASE(4) CASE(8) CASE(16) CASE(32)
#undef CASE
    }
    for (i64 y = 0; y < rows; y++) NAME(copy)(to + y * to_step, from + y * from_step, n);
}

/* A line's pixels by turns to two lines, and back; each of them takes or gives so many pixels, the others are nothing or 0. */
INLINE void NAME(deal)(const float *restrict line, float *restrict even, i64 evens, float *restrict odd, i64 odds) {
    i64 i = 0;
    for (; i + 4 <= evens && i + 4 <= odds; i += 4) {
        quad a = *(const quad *)(line + 2 * i), b = *(const quad *)(line + 2 * i + 4);
        *(quad *)(even + i) = __builtin_shufflevector(a, b, 0, 2, 4, 6);
        *(quad *)(odd + i) = __builtin_shufflevector(a, b, 1, 3, 5, 7);
    }
    for (i64 k = i; k < evens; k++) even[k] = line[2 * k];
    for (i64 k = i; k < odds; k++) odd[k] = line[2 * k + 1];
}
INLINE void NAME(merge)(float *restrict line, i64 width, const float *restrict even, i64 evens, const float *restrict odd, i64 odds) {
    i64 i = 0;
    for (; i + 4 <= evens && i + 4 <= odds; i += 4) {
        quad a = *(const quad *)(even + i), b = *(const quad *)(odd + i);
        *(quad *)(line + 2 * i) = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        *(quad *)(line + 2 * i + 4) = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    }
    for (i64 k = i; 2 * k < width; k++) line[2 * k] = k < evens ? even[k] : 0;
    for (i64 k = i; 2 * k + 1 < width; k++) line[2 * k + 1] = k < odds ? odd[k] : 0;
}

/* The same for n pixels: whole vectors, then four at a time (rows of small images), then one by one. BODY(V, I, k): V is the type of
 * the vectors, I that of their masks, k the name of their accumulators. */
#define PIXELS(n, BODY) \
    do { \
        i64 at = 0; \
        for (; at + LANES <= (n); at += LANES) BODY(vec, ints, wide) \
        for (; at + 4 <= (n); at += 4) BODY(quad, quads, four) \
        for (; at < (n); at++) BODY(lone, lones, one) \
    } while (0)
#define GET(V, p) (*(const V *)((p) + at))
#define PUT(V, p, v) (*(V *)((p) + at) = (v))
#define WHERE(V, I, mask, v) ((V)((mask) & (I)(v)))
#define RELU(V, I, v) WHERE(V, I, ~((v) < 0.0f), v) /* NaN passes, as in torch */

/* n pixels of channel c of what a unit reads, with the norm before it and its ReLU. */
INLINE void NAME(activate)(const pass *p, i64 c, float *restrict to, const float *restrict from, i64 n) {
    float scale = p->scale ? p->scale[c] : 1, shift = p->scale ? p->shift[c] : 0;
#define RECTIFIED(V, I, k) { V v = GET(V, from); PUT(V, to, RELU(V, I, v)); }
#define NORMED(V, I, k) { PUT(V, to, GET(V, from) * scale + shift); }
#define BOTH(V, I, k) { V v = GET(V, from) * scale + shift; PUT(V, to, RELU(V, I, v)); }
    if (p->scale && p->u->relu)
        PIXELS(n, BOTH);
    else if (p->scale)
        PIXELS(n, NORMED);
    else if (p->u->relu)
        PIXELS(n, RECTIFIED);
    else
        NAME(copy)(to, from, n);
#undef RECTIFIED
#undef NORMED
#undef BOTH
}

/* ------------------------------------------------------------------------------------------------ planes */

/* Spread the pixels of a plane over the phases' padded planes, whose padding is there already. */
static void NAME(scatter)(const window *s, const float *restrict from, float *restrict planes) {
    if (s->phases == 1) {
        i64 rows = s->rows - s->top < s->height ? s->rows - s->top : s->height, n = s->row - s->left < s->width ? s->row - s->left : s->width;
        NAME(copy_rows)(planes + s->top * s->row + s->left, s->row, from, s->width, n, rows);
        return;
    }
    i64 down = s->stride_h - 1, even = s->left >> 1, odd = (s->left + 1) >> 1, evens = (s->width + 1) >> 1, odds = s->width >> 1;
    if (evens > s->row - even) evens = s->row - even;
    if (odds > s->row - odd) odds = s->row - odd;
    for (i64 y = 0; y < s->height; y++) {
        i64 row = (y + s->top) >> down, which = ((y + s->top) & down) * s->stride_w;
        if (row >= s->rows || s->begin[which] == s->begin[which + s->stride_w]) continue;
        float *to = planes + which * s->plane + row * s->row;
        const float *line = from + y * s->width;
        if (s->stride_w == 1)
            NAME(copy)(to + s->left, line, s->row - s->left < s->width ? s->row - s->left : s->width);
        else /* even pixels are the first phase's where the padding is even */
            NAME(deal)(line, to + (s->left & 1) * s->plane + even, evens, to + (~s->left & 1) * s->plane + odd, odds);
    }
}

/* The opposite: pixels that no tap reads become 0; a phase that no tap reads is 0. */
static void NAME(gather)(const window *s, const float *restrict planes, float *restrict to) {
    if (s->phases == 1 && s->rows - s->top >= s->height && s->row - s->left >= s->width) {
        NAME(copy_rows)(to, s->width, planes + s->top * s->row + s->left, s->row, s->width, s->height);
        return;
    }
    i64 down = s->stride_h - 1, even = s->left >> 1, odd = (s->left + 1) >> 1, all = s->row - s->left;
    for (i64 y = 0; y < s->height; y++) {
        i64 row = (y + s->top) >> down, which = ((y + s->top) & down) * s->stride_w;
        i64 read = row < s->rows && s->begin[which] < s->begin[which + s->stride_w];
        const float *from = planes + which * s->plane + row * s->row;
        float *line = to + y * s->width;
        if (s->stride_w == 2) {
            i64 evens = read ? s->row - even : 0, odds = read ? s->row - odd : 0;
            if (evens > (s->width + 1) >> 1) evens = (s->width + 1) >> 1;
            if (odds > s->width >> 1) odds = s->width >> 1;
            NAME(merge)(line, s->width, from + (s->left & 1) * s->plane + even, evens, from + (~s->left & 1) * s->plane + odd, odds);
            continue;
        }
        i64 n = !read ? 0 : all < s->width ? all : s->width;
        NAME(copy)(line, from + s->left, n);
        for (i64 x = n; x < s->width; x++) line[x] = 0;
    }
}

/* Output pixels from rows of a padded plane to dense ones, and back. */
INLINE void NAME(compact)(const window *s, const float *from, float *to) {
    NAME(copy_rows)(to, s->out_width, from, s->row, s->out_width, s->out_height);
}
INLINE void NAME(expand)(const window *s, const float *from, float *to) {
    NAME(copy_rows)(to, s->row, from, s->out_width, s->out_width, s->out_height);
}

/* ------------------------------------------------------------------------------------------------ depthwise */

INLINE void NAME(correlate_block)(int wide, const float *in, const i64 *offset, const float *weight, i64 taps, float *out) {
    vec sum[8];
    for (int v = 0; v < wide; v++) sum[v] = (vec){0};
    for (i64 t = 0; t < taps; t++) {
        const float *at = in + offset[t];
        float w = weight[t];
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) sum[v] += w * NAME(load)(at + v * LANES);
    }
    for (int v = 0; v < wide; v++) NAME(store)(out + v * LANES, sum[v]);
}

/* out[i] = the sum over the taps of weight * in[offset + i], for so many i and up to a vector more. */
static void NAME(correlate)(const float *in, const i64 *offset, const float *weight, i64 taps, float *out, i64 length) {
    for (i64 left = (length + LANES - 1) / LANES, take; left; left -= take, in += take * LANES, out += take * LANES) {
        take = block_of(left, 8);
        switch (take) {
#define CASE(n) case n: NAME(correlate_block)(n, in, offset, weight, taps, out); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
        }
    }
}

INLINE void NAME(taps_block)(int wide, const float *grad, const float *in, const i64 *offset, i64 length, float *sums) {
    vec sum[9];
    for (int t = 0; t < wide; t++) sum[t] = NAME(load)(sums + t * LANES);
    for (i64 i = 0; i < length; i += LANES) {
        vec g = NAME(load)(grad + i);
#pragma GCC unroll 9
        for (int t = 0; t < wide; t++) sum[t] += g * NAME(load)(in + offset[t] + i);
    }
    for (int t = 0; t < wide; t++) NAME(store)(sums + t * LANES, sum[t]);
}

/* Add to every tap's vector of sums: the gradient of a depthwise kernel. `grad` is 0 between the output's rows. */
static void NAME(taps_gradient)(const float *grad, const float *in, const i64 *offset, i64 taps, i64 length, float *sums) {
    for (i64 take; taps; taps -= take, offset += take, sums += take * LANES) {
        take = block_of(taps, 9);
        switch (take) {
#define CASE(n) case n: NAME(taps_block)(n, grad, in, offset, length, sums); break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9)
#undef CASE
        }
    }
}

/* The gradient of what a window read: the output's gradient correlated with each phase's taps, backwards. `grad` points to its first pixel. */
static void NAME(depthwise_back)(const window *s, i64 images, const float *grad, const float *weight, float *planes) {
    for (i64 phase = 0; phase < s->phases; phase++) {
        i64 begin = s->begin[phase], taps = s->begin[phase + 1] - begin, offset[MOST_TAPS];
        float ordered[MOST_TAPS];
        if (!taps) continue;
        for (i64 t = 0; t < taps; t++) {
            offset[t] = -s->within[s->order[begin + t]];
            ordered[t] = weight[s->order[begin + t]];
        }
        i64 start, end;
        rows_of(s, phase, images, &start, &end);
        NAME(correlate)(grad + start, offset, ordered, taps, planes + phase * s->plane + start, end - start);
    }
}

/* ------------------------------------------------------------------------------------------------ dense */

INLINE void NAME(dense_block)(int rows, int wide, const float *in, const i64 *offset, i64 terms, const float *weight, float *out, i64 out_row) {
    vec sum[ROWS][4];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) sum[r][v] = (vec){0};
    for (i64 j = 0; j < terms; j++, weight += rows) {
        const float *at = in + offset[j];
        vec x[4];
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) x[v] = NAME(load)(at + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            vec w = NAME(spread)(weight[r]);
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++) sum[r][v] += w * x[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) NAME(store)(out + r * out_row + v * LANES, sum[r][v]);
}

/* All rows of a product for so many pixels, and up to a vector more. */
static void NAME(dense)(const product *p, const float *in, float *out, i64 out_row, i64 length) {
    i64 left = (length + LANES - 1) / LANES;
    for (i64 take; left; left -= take, in += take * LANES, out += take * LANES) {
        take = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        const float *weight = p->packed;
        for (i64 r = 0, rows; r < p->rows; r += rows, weight += rows * p->terms) {
            rows = block_of(p->rows - r, ROWS);
            float *to = out + r * out_row;
            if (take == 4 && rows > ROWS / 2) { /* as much as there are registers for, in two halves */
                switch (rows) {
#define CASE(n) case n: \
                    NAME(dense_block)(n, 2, in, p->offset, p->terms, weight, to, out_row); \
                    NAME(dense_block)(n, 2, in + 2 * LANES, p->offset, p->terms, weight, to + 2 * LANES, out_row); break;
                    CASE(3) CASE(4)
#if ROWS > 4
                    CASE(5)
#endif
#if ROWS > 5
                    CASE(6) CASE(7) CASE(8)
#endif
#undef CASE
                }
                continue;
            }
            switch (rows * 8 + take) {
#define CASE(n, w) case n * 8 + w: NAME(dense_block)(n, w, in, p->offset, p->terms, weight, to, out_row); break;
                CASE(1, 1) CASE(1, 2) CASE(1, 4) CASE(2, 1) CASE(2, 2) CASE(2, 4) CASE(3, 1) CASE(3, 2) CASE(4, 1) CASE(4, 2)
#if ROWS > 4
                CASE(5, 1) CASE(5, 2)
#endif
#if ROWS > 5
                CASE(3, 4) CASE(4, 4) CASE(6, 1) CASE(6, 2) CASE(7, 1) CASE(7, 2) CASE(8, 1) CASE(8, 2)
#endif
#undef CASE
            }
        }
    }
}

INLINE void NAME(outer_block)(int rows, int terms, const float *grad, i64 row, const float *in, const i64 *offset, i64 length, float *to,
                              i64 to_row) {
    vec sum[OUTER][OUTER];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < terms; j++) sum[r][j] = (vec){0};
    for (i64 i = 0; i < length; i += LANES) {
        vec x[OUTER];
#pragma GCC unroll 4
        for (int j = 0; j < terms; j++) x[j] = NAME(load)(in + offset[j] + i);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            vec g = NAME(load)(grad + r * row + i);
#pragma GCC unroll 4
            for (int j = 0; j < terms; j++) sum[r][j] += g * x[j];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < terms; j++) to[r * to_row + j] += NAME(total)(sum[r][j]);
}

/* Add the gradient of a dense convolution's weights: row r, term j gets the sum over the pixels of grad * in[offset[j]].
 * `grad` is 0 where there is no pixel, up to a whole vector, and `in` is finite there. */
static void NAME(outer)(const float *grad, i64 row, i64 rows, const float *in, const i64 *offset, i64 terms, i64 length, float *to) {
    for (i64 r = 0, m; r < rows; r += m) {
        m = block_of(rows - r, OUTER);
        for (i64 j = 0, n; j < terms; j += n) {
            n = block_of(terms - j, OUTER);
            switch (m * 8 + n) {
#define CASE(a, b) case a * 8 + b: \
                NAME(outer_block)(a, b, grad + r * row, row, in, offset + j, length, to + r * terms + j, terms); break;
                CASE(1, 1) CASE(1, 2) CASE(2, 1) CASE(2, 2)
#if OUTER > 2
                CASE(1, 3) CASE(2, 3) CASE(3, 1) CASE(3, 2) CASE(3, 3)
#endif
#if OUTER > 3
                CASE(1, 4) CASE(2, 4) CASE(3, 4) CASE(4, 1) CASE(4, 2) CASE(4, 3) CASE(4, 4)
#endif
#undef CASE
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------------ a unit forward */

/* A plane of what the unit reads, activated, in the padded planes of its window. */
INLINE void NAME(load_planes)(const pass *p, i64 c, const float *x, float *planes, float *spare) {
    if (p->scale || p->u->relu) {
        NAME(activate)(p, c, spare, x, p->u->height * p->u->width);
        x = spare;
    }
    NAME(scatter)(&p->win, x, planes);
}

/* Mean and sum of squared distances from it of n numbers, merged into those of `before` numbers (Chan et al. 1979). */
static void NAME(merge_moments)(const float *x, i64 n, i64 before, double *moments) {
    vec sum = {0};
    i64 i = 0;
    for (; i + LANES <= n; i += LANES) sum += NAME(load)(x + i);
    float s = NAME(total)(sum), squares;
    for (; i < n; i++) s += x[i];
    float mean = s / (float)n;
    for (sum = (vec){0}, i = 0; i + LANES <= n; i += LANES) {
        vec d = NAME(load)(x + i) - mean;
        sum += d * d;
    }
    squares = NAME(total)(sum);
    for (; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double exact = (double)s / (double)n, apart = exact - moments[0], all = (double)(before + n);
    double off = exact - mean; /* the rounding of the mean */
    moments[0] += apart * (double)n / all;
    moments[1] += squares - off * off * (double)n + apart * apart * (double)before * (double)n / all;
}

/* What a tile's dense convolution reads: rows of pixels, through the depthwise convolution where there is one. */
static void NAME(load_rows)(const pass *p, i64 n, i64 images, float *rows, float *planes, float *flat, float *spare) {
    const unit *u = p->u;
    i64 pixels = u->out_height * u->out_width, area = u->height * u->width;
    const window *s = &p->win;
    for (i64 c = 0; c < u->in_channels; c++) {
        const float *x = p->x + n * p->x_step + c * area;
        float *to = rows + c * p->padded, *between = u->between + (n * u->in_channels + c) * pixels;
        for (i64 i = 0; i < images && !u->depthwise; i++) NAME(activate)(p, c, to + i * pixels, x + i * p->x_step, area);
        for (i64 i = 0, m; i < images && u->depthwise; i += m) {
            m = images - i < s->strip ? images - i : s->strip;
            for (i64 k = 0; k < m; k++) NAME(load_planes)(p, c, x + (i + k) * p->x_step, planes + k * s->period, spare);
            NAME(correlate)(planes, s->offset, u->depthwise_weight + c * s->taps, s->taps, flat, flat_of(s, m));
            for (i64 k = i; k < i + m; k++) {
                NAME(compact)(s, flat + (k - i) * s->period, to + k * pixels);
                NAME(copy)(between + k * u->in_channels * pixels, to + k * pixels, pixels);
            }
        }
    }
}

static void NAME(forward_chunk)(void *given, i64 chunk) {
    const pass *p = given;
    const unit *u = p->u;
    const window *s = &p->win;
    i64 pixels = u->out_height * u->out_width, area = u->height * u->width, end = last_of(p, chunk);
    i64 planes_each = s->phases * s->plane, flat_row = ROUND(flat_of(s, s->strip), 64) + 64;
    i64 planes_n = p->full ? u->in_channels * planes_each : u->depthwise ? planes_each : 0, rows_n = p->full ? 0 : u->in_channels * p->padded;
    i64 flat_n = p->full ? u->out_channels * flat_row : flat_row, made_n = u->out_channels * p->padded;
    float *planes = scratch_of(planes_n + rows_n + flat_n + made_n + area + 256), *rows = planes + planes_n, *flat = rows + rows_n;
    float *made = flat + flat_n, *spare = made + made_n;
    memset(planes, 0, sizeof(float) * planes_n);
    double *moments = p->moments + chunk * 2 * u->out_channels;
    for (i64 n = first_of(p, chunk), images; n < end; n += images) {
        images = end - n < p->tile ? end - n : p->tile;
        if (!p->full) {
            NAME(load_rows)(p, n, images, rows, planes, flat, spare);
            NAME(dense)(&p->products[0], rows, made, p->padded, images * pixels);
        }
        for (i64 i = 0, m; i < images && p->full; i += m) {
            m = images - i < s->strip ? images - i : s->strip;
            for (i64 c = 0; c < u->in_channels; c++)
                for (i64 k = 0; k < m; k++)
                    NAME(load_planes)(p, c, p->x + (n + i + k) * p->x_step + c * area, planes + c * planes_each + k * s->period, spare);
            for (i64 g = 0; g < p->groups; g++)
                NAME(dense)(&p->products[g], planes, flat + group_begin(p, g) * flat_row, flat_row, flat_of(s, m));
            for (i64 c = 0; c < u->out_channels; c++)
                for (i64 k = 0; k < m; k++)
                    NAME(compact)(s, flat + c * flat_row + k * s->period, made + c * p->padded + (i + k) * pixels);
        }
        for (i64 c = 0; c < u->out_channels; c++) {
            for (i64 i = 0; i < images; i++)
                NAME(copy)(u->made + ((n + i) * u->out_channels + c) * pixels, made + c * p->padded + i * pixels, pixels);
            if (u->norm && u->batches)
                NAME(merge_moments)(made + c * p->padded, images * pixels, (n - first_of(p, chunk)) * pixels, moments + 2 * c);
        }
    }
}

static void NAME(set_norm)(const unit *u, i64 c, double mean, double inverse) {
    i64 channels = u->out_channels;
    u->norms[c] = (float)mean;
    u->norms[channels + c] = (float)inverse;
    u->norms[2 * channels + c] = (float)(u->gamma[c] * inverse);
    u->norms[3 * channels + c] = (float)(u->beta[c] - mean * u->gamma[c] * inverse);
}

/* Batch norm's statistics from those of all chunks, its moving ones, and what loading has to do for it. */
static void NAME(finish_moments)(const pass *p) {
    unit *u = p->u;
    i64 pixels = u->out_height * u->out_width, channels = u->out_channels;
    double all = (double)(u->batch * pixels);
    if (!u->batches) { /* in evaluation */
        for (i64 c = 0; c < channels; c++) NAME(set_norm)(u, c, u->running_mean[c], 1 / sqrt(u->running_var[c] + u->eps));
        return;
    }
    ++*u->batches;
    for (i64 c = 0; c < channels; c++) {
        double mean = 0, squares = 0, before = 0;
        for (i64 chunk = 0; chunk < p->chunks; chunk++) {
            double n = (double)((last_of(p, chunk) - first_of(p, chunk)) * pixels);
            const double *m = p->moments + 2 * (chunk * channels + c);
            double apart = m[0] - mean;
            mean += apart * n / (before + n);
            squares += m[1] + apart * apart * before * n / (before + n);
            before += n;
        }
        NAME(set_norm)(u, c, mean, 1 / sqrt(squares / all + u->eps));
        u->running_mean[c] = (float)((1 - u->momentum) * u->running_mean[c] + u->momentum * mean);
        u->running_var[c] = (float)((1 - u->momentum) * u->running_var[c] + u->momentum * squares / (all - 1));
    }
}

static void NAME(write_chunk)(void *given, i64 chunk) {
    const pass *p = given;
    const unit *u = p->u;
    i64 pixels = u->out_height * u->out_width, channels = u->out_channels;
    for (i64 n = first_of(p, chunk); n < last_of(p, chunk); n++)
        for (i64 c = 0; c < channels; c++) {
            const float *from = u->made + (n * channels + c) * pixels, *add = p->addend ? p->addend + n * p->addend_step + c * pixels : NULL;
            float *to = p->out + (n * channels + c) * pixels, scale = 1, shift = 0;
            if (u->norm) scale = u->norms[2 * channels + c], shift = u->norms[3 * channels + c];
#define WRITE(V, I, k) { \
        V v = GET(V, from) * scale + shift; \
        if (u->relu_after) v = RELU(V, I, v); \
        if (add) v += GET(V, add); \
        PUT(V, to, v); \
    }
            PIXELS(pixels, WRITE);
#undef WRITE
        }
}

static void NAME(forward)(unit *units, i64 count, const float *x, i64 x_step, const float *addend, i64 addend_step, float *out, i64 threads) {
    for (i64 k = 0; k < count; k++) {
        unit *u = units + k;
        pass p = pass_of(u, x, x_step, k ? u - 1 : NULL);
        i64 planes = p.win.phases * p.win.plane;
        p.moments = calloc(p.chunks * u->out_channels * 2, sizeof(double));
        for (i64 g = 0; g < p.groups; g++) {
            i64 terms = u->in_channels * p.taps, *offset = malloc(sizeof(i64) * terms), *column = malloc(sizeof(i64) * terms);
            for (i64 j = 0; j < terms; j++) {
                column[j] = j;
                offset[j] = p.full ? j / p.taps * planes + p.win.offset[u->split ? split_tap(&p, g) : j % p.taps] : j * p.padded;
            }
            i64 begin = group_begin(&p, g);
            p.products[g] = pack(group_end(&p, g) - begin, terms, u->weight + begin * terms, terms, column, offset, ROWS);
            free(column);
        }
        for_each(NAME(forward_chunk), &p, p.chunks, threads);
        if (u->norm) NAME(finish_moments)(&p);
        if (k == count - 1 && out) {
            p.out = out, p.addend = addend, p.addend_step = addend_step;
            for_each(NAME(write_chunk), &p, p.chunks, threads);
        }
        for (i64 g = 0; g < p.groups; g++) unpack(&p.products[g]);
        free(p.moments);
        x = u->made, x_step = u->out_channels * u->out_height * u->out_width;
    }
}

/* ------------------------------------------------------------------------------------------------ a unit backward */

/* The gradient that reaches the norm: 0 where the ReLU after it gave 0. */
#define PASSED(V, I, grad, made) (u->relu_after ? WHERE(V, I, ~((made) * scale + shift <= 0.0f), grad) : (grad))

/* The two sums that batch norm's gradient needs, of the last unit of a chain: of grad, and of grad * (made - mean). */
static void NAME(sums_chunk)(void *given, i64 chunk) {
    const pass *p = given;
    const unit *u = p->u;
    i64 pixels = u->out_height * u->out_width, channels = u->out_channels;
    for (i64 c = 0; c < channels; c++) {
        float mean = u->norms[c], scale = u->norms[2 * channels + c], shift = u->norms[3 * channels + c];
        vec first_wide = {0}, second_wide = {0};
        quad first_four = {0}, second_four = {0};
        lone first_one = {0}, second_one = {0};
        for (i64 n = first_of(p, chunk); n < last_of(p, chunk); n++) {
            const float *grad = p->grad + n * p->grad_step + c * pixels, *made = u->made + (n * channels + c) * pixels;
#define ADD(V, I, k) { \
        V m = GET(V, made), given = GET(V, grad), g = PASSED(V, I, given, m); \
        first_##k += g; \
        second_##k += g * (m - mean); \
    }
            PIXELS(pixels, ADD);
#undef ADD
        }
        double *sums = p->moments + 2 * (chunk * channels + c);
        sums[0] = (double)NAME(total)(first_wide) + sum_of(first_four) + first_one[0];
        sums[1] = (double)NAME(total)(second_wide) + sum_of(second_four) + second_one[0];
    }
}

/* A tile's gradients before the norm, as rows of pixels with zeros after them. */
static void NAME(grad_rows)(const pass *p, i64 n, i64 images, float *rows) {
    const unit *u = p->u;
    i64 pixels = u->out_height * u->out_width, channels = u->out_channels;
    for (i64 c = 0; c < channels; c++) {
        float *row = rows + c * p->padded;
        for (i64 i = 0; i < images; i++) {
            const float *grad = p->grad + (n + i) * p->grad_step + c * pixels, *made = u->made + ((n + i) * channels + c) * pixels;
            float *to = row + i * pixels;
            if (!u->norm) {
                NAME(copy)(to, grad, pixels);
                continue;
            }
            float a = p->ga[c], b = p->gb[c], add = p->gc[c], mean = u->norms[c], scale = u->norms[2 * channels + c];
            float shift = u->norms[3 * channels + c];
#define BACK(V, I, k) { \
        V m = GET(V, made), given = GET(V, grad), g = PASSED(V, I, given, m); \
        PUT(V, to, g * a + ((m - mean) * b + add)); \
    }
            PIXELS(pixels, BACK);
#undef BACK
        }
        memset(row + images * pixels, 0, sizeof(float) * (p->padded - images * pixels));
    }
}

/* Write the gradient of one plane of what the unit reads, through its ReLU, and add to the sums for the norm before it. */
static void NAME(store_grad)(const pass *p, i64 n, i64 c, const float *grad, float *sums) {
    const unit *u = p->u;
    i64 area = u->height * u->width;
    const float *x = p->x + n * p->x_step + c * area;
    float *to = u->grad_in + (n * u->in_channels + c) * area;
    float scale = p->scale ? p->scale[c] : 1, shift = p->scale ? p->shift[c] : 0;
    if (!p->mean) {
#define MASK(V, I, k) { V v = GET(V, x), g = GET(V, grad); PUT(V, to, WHERE(V, I, ~(v <= 0.0f), g)); }
        if (u->relu)
            PIXELS(area, MASK);
        else
            NAME(copy)(to, grad, area);
#undef MASK
        return;
    }
    float mean = p->mean[c];
    vec first_wide = NAME(load)(sums), second_wide = NAME(load)(sums + LANES);
    quad first_four = {0}, second_four = {0};
    lone first_one = {0}, second_one = {0};
#define ADD(V, I, k) { \
        V v = GET(V, x), g = GET(V, grad); \
        if (u->relu) g = WHERE(V, I, ~(v * scale + shift <= 0.0f), g); \
        PUT(V, to, g); \
        first_##k += g; \
        second_##k += g * (v - mean); \
    }
    PIXELS(area, ADD);
#undef ADD
    first_wide[0] += sum_of(first_four) + first_one[0];
    second_wide[0] += sum_of(second_four) + second_one[0];
    NAME(store)(sums, first_wide);
    NAME(store)(sums + LANES, second_wide);
}

typedef struct {
    float *grads, *ins, *grad_ins, *planes, *grad_planes, *in_planes, *spare, *taps, *sums, *end;
} NAME(room);

static NAME(room) NAME(room_of)(const pass *p) {
    const unit *u = p->u;
    const window *s = &p->win;
    i64 ci = u->in_channels, co = u->out_channels, planes = s->phases * s->plane, windows = p->full ? ci : u->depthwise ? 1 : 0;
    i64 sizes[] = {co * p->padded, p->full ? 0 : ci * p->padded, p->full ? 0 : ci * p->padded, windows * planes,
                   (p->full ? co : windows) * s->grad_plane, windows * planes, u->height * u->width + 64,
                   u->depthwise ? ci * s->taps * LANES : 0, ci * 2 * LANES};
    i64 all = 0;
    for (int i = 0; i < 9; i++) all += ROUND(sizes[i], 16);
    float *at = scratch_of(all + 64), *parts[10];
    for (int i = 0; i < 9; at += ROUND(sizes[i], 16), i++) parts[i] = at;
    NAME(room) r = {parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6], parts[7], parts[8], at};
    memset(r.planes, 0, sizeof(float) * (r.spare - r.planes));
    memset(r.taps, 0, sizeof(float) * (r.end - r.taps));
    return r;
}

/* Output gradients of a strip of images in a padded plane, which is 0 where there are fewer images than last time. */
INLINE void NAME(expand_strip)(const window *s, const float *rows, i64 images, float *plane) {
    for (i64 k = 0; k < images; k++) NAME(expand)(s, rows + k * s->out_height * s->out_width, plane + s->lead + k * s->period);
    if (images < s->strip) memset(plane + s->lead + images * s->period, 0, sizeof(float) * (s->strip - images) * s->period);
}

/* A strip of images of a convolution that slides over padded planes itself: those from the tile's image i on. */
static void NAME(full_back)(const pass *p, i64 n, i64 i, i64 images, NAME(room) *r, const i64 *offset, float *partial) {
    const unit *u = p->u;
    const window *s = &p->win;
    i64 pixels = u->out_height * u->out_width, area = u->height * u->width, planes = s->phases * s->plane, terms = u->in_channels * p->taps;
    for (i64 c = 0; c < u->out_channels; c++)
        NAME(expand_strip)(s, r->grads + c * p->padded + i * pixels, images, r->grad_planes + c * s->grad_plane);
    for (i64 c = 0; c < u->in_channels; c++)
        for (i64 k = 0; k < images; k++)
            NAME(load_planes)(p, c, p->x + (n + i + k) * p->x_step + c * area, r->planes + c * planes + k * s->period, r->spare);
    for (i64 g = 0; g < p->groups; g++) {
        i64 begin = group_begin(p, g);
        NAME(outer)(r->grad_planes + begin * s->grad_plane + s->lead, s->grad_plane, group_end(p, g) - begin, r->planes, offset + g * terms,
                    terms, flat_of(s, images), partial + begin * terms);
    }
    if (!u->grad_in) return;
    for (i64 phase = 0; phase < s->phases; phase++) {
        i64 start, end;
        rows_of(s, phase, images, &start, &end);
        if (p->products[phase].terms)
            NAME(dense)(&p->products[phase], r->grad_planes + start, r->in_planes + phase * s->plane + start, planes, end - start);
    }
    for (i64 c = 0; c < u->in_channels; c++)
        for (i64 k = 0; k < images; k++) {
            NAME(gather)(s, r->in_planes + c * planes + k * s->period, r->spare);
            NAME(store_grad)(p, n + i + k, c, r->spare, r->sums + c * 2 * LANES);
        }
}

/* A strip of images of a depthwise convolution, channel c, with the gradients of what it made. */
static void NAME(depthwise_strip)(const pass *p, i64 n, i64 images, i64 c, const float *grads, NAME(room) *r) {
    const unit *u = p->u;
    const window *s = &p->win;
    const float *x = p->x + n * p->x_step + c * u->height * u->width;
    NAME(expand_strip)(s, grads, images, r->grad_planes);
    for (i64 k = 0; k < images; k++) NAME(load_planes)(p, c, x + k * p->x_step, r->planes + k * s->period, r->spare);
    NAME(taps_gradient)(r->grad_planes + s->lead, r->planes, s->offset, s->taps, flat_of(s, images), r->taps + c * s->taps * LANES);
    if (!u->grad_in) return;
    NAME(depthwise_back)(s, images, r->grad_planes + s->lead, u->depthwise_weight + c * s->taps, r->in_planes);
    for (i64 k = 0; k < images; k++) {
        NAME(gather)(s, r->in_planes + k * s->period, r->spare);
        NAME(store_grad)(p, n + k, c, r->spare, r->sums + c * 2 * LANES);
    }
}

/* What a tile's dense convolution had read, as rows of pixels with zeros after them. */
static void NAME(reload_rows)(const pass *p, i64 n, i64 images, float *rows) {
    const unit *u = p->u;
    i64 pixels = u->out_height * u->out_width;
    for (i64 c = 0; c < u->in_channels; c++) {
        for (i64 i = 0; i < images; i++) {
            float *to = rows + c * p->padded + i * pixels;
            if (u->depthwise)
                NAME(copy)(to, u->between + ((n + i) * u->in_channels + c) * pixels, pixels);
            else
                NAME(activate)(p, c, to, p->x + (n + i) * p->x_step + c * pixels, pixels);
        }
        memset(rows + c * p->padded + images * pixels, 0, sizeof(float) * (p->padded - images * pixels));
    }
}

static void NAME(backward_chunk)(void *given, i64 chunk) {
    const pass *p = given;
    const unit *u = p->u;
    const window *s = &p->win;
    i64 pixels = u->out_height * u->out_width, end = last_of(p, chunk), ci = u->in_channels;
    i64 terms = ci * p->taps, *offset = malloc(sizeof(i64) * terms * p->groups);
    NAME(room) r = NAME(room_of)(p);
    float *partial = p->partial + chunk * u->out_channels * terms;
    for (i64 g = 0; g < p->groups; g++)
        for (i64 j = 0; j < terms; j++)
            offset[g * terms + j] =
                p->full ? j / p->taps * s->phases * s->plane + s->offset[u->split ? split_tap(p, g) : j % p->taps] : j * p->padded;
    for (i64 n = first_of(p, chunk), images; n < end; n += images) {
        images = end - n < p->tile ? end - n : p->tile;
        NAME(grad_rows)(p, n, images, r.grads);
        if (p->full) {
            for (i64 i = 0; i < images; i += s->strip)
                NAME(full_back)(p, n, i, images - i < s->strip ? images - i : s->strip, &r, offset, partial);
            continue;
        }
        NAME(reload_rows)(p, n, images, r.ins);
        NAME(outer)(r.grads, p->padded, u->out_channels, r.ins, offset, terms, images * pixels, partial);
        if (!u->depthwise && !u->grad_in) continue;
        NAME(dense)(&p->products[0], r.grads, r.grad_ins, p->padded, images * pixels);
        for (i64 c = 0; c < ci; c++) {
            const float *grads = r.grad_ins + c * p->padded;
            for (i64 i = 0; i < images; i += s->strip) {
                if (u->depthwise)
                    NAME(depthwise_strip)(p, n + i, images - i < s->strip ? images - i : s->strip, c, grads + i * pixels, &r);
                for (i64 k = i; k < images && k < i + s->strip && !u->depthwise; k++)
                    NAME(store_grad)(p, n + k, c, grads + k * pixels, r.sums + c * 2 * LANES);
            }
        }
    }
    for (i64 k = 0; u->depthwise && k < ci * s->taps; k++)
        p->partial_depthwise[chunk * ci * s->taps + k] = NAME(total)(NAME(load)(r.taps + k * LANES));
    for (i64 k = 0; p->sums && k < 2 * ci; k++) p->sums[chunk * 2 * ci + k] = NAME(total)(NAME(load)(r.sums + k * LANES));
    free(offset);
}

/* The packed weights that lead from output gradients to input gradients, for each phase of the planes. */
static void NAME(pack_back)(pass *p) {
    const unit *u = p->u;
    const window *s = &p->win;
    i64 co = u->out_channels, terms = u->in_channels * p->taps;
    for (i64 phase = 0; phase < (p->full ? s->phases : 1); phase++) {
        i64 taps = p->full ? s->begin[phase + 1] - s->begin[phase] : 1, n = 0;
        i64 *offset = malloc(sizeof(i64) * (co * taps + 1)), *column = malloc(sizeof(i64) * (co * taps + 1));
        for (i64 c = 0; c < co; c++)
            for (i64 k = 0; k < taps; k++) {
                i64 tap = p->full ? s->order[s->begin[phase] + k] : 0;
                if (u->split && tap != split_tap(p, c >= u->split)) continue;
                column[n] = c * terms + (u->split ? 0 : tap);
                offset[n++] = p->full ? c * s->grad_plane + s->lead - s->within[tap] : c * p->padded;
            }
        p->products[phase] = pack(u->in_channels, n, u->weight, p->taps, column, offset, ROWS);
        free(column);
    }
}

static void NAME(backward)(unit *units, i64 count, const float *x, i64 x_step, const float *grad, i64 grad_step, i64 threads) {
    double *sums = NULL; /* of the norm after the unit at hand, and in how many chunks */
    i64 sums_chunks = 0;
    for (i64 k = count - 1; k >= 0; k--) {
        unit *u = units + k, *before = k ? u - 1 : NULL;
        pass p = pass_of(u, k ? before->made : x, k ? before->out_channels * before->out_height * before->out_width : x_step, before);
        i64 co = u->out_channels, ci = u->in_channels, terms = ci * p.taps, kernel = u->depthwise ? ci * p.win.taps : 0;
        p.grad = grad, p.grad_step = grad_step;
        float *coefficients = malloc(sizeof(float) * (3 * co + p.chunks * (co * terms + kernel)));
        p.ga = coefficients, p.gb = coefficients + co, p.gc = coefficients + 2 * co;
        p.partial = coefficients + 3 * co, p.partial_depthwise = p.partial + p.chunks * co * terms;
        memset(p.partial, 0, sizeof(float) * p.chunks * co * terms);
        if (u->norm && !sums) {
            sums = p.moments = malloc(sizeof(double) * p.chunks * co * 2);
            sums_chunks = p.chunks;
            for_each(NAME(sums_chunk), &p, p.chunks, threads);
        }
        for (i64 c = 0; c < co && u->norm; c++) {
            double first = 0, second = 0, all = (double)(u->batch * u->out_height * u->out_width), inverse = u->norms[co + c];
            for (i64 chunk = 0; chunk < sums_chunks; chunk++) {
                first += sums[2 * (chunk * co + c)];
                second += sums[2 * (chunk * co + c) + 1];
            }
            u->grad_beta[c] = (float)first;
            u->grad_gamma[c] = (float)(second * inverse);
            coefficients[c] = (float)(u->gamma[c] * inverse);
            coefficients[co + c] = (float)(-u->gamma[c] * inverse * inverse * inverse * second / all);
            coefficients[2 * co + c] = (float)(-u->gamma[c] * inverse * first / all);
        }
        free(sums);
        sums = p.sums = before && before->norm ? malloc(sizeof(double) * p.chunks * ci * 2) : NULL;
        sums_chunks = p.chunks;
        NAME(pack_back)(&p);
        for_each(NAME(backward_chunk), &p, p.chunks, threads);
        add_parts(p.partial, p.chunks, co * terms, u->grad_weight);
        add_parts(p.partial_depthwise, p.chunks, kernel, u->grad_depthwise);
        for (i64 phase = 0; phase < (p.full ? p.win.phases : 1); phase++) unpack(&p.products[phase]);
        free(coefficients);
        grad = u->grad_in, grad_step = ci * u->height * u->width;
    }
    free(sums);
}

#include "pooling.h"

static const kernels NAME(kernels) = {NAME(forward), NAME(backward), NAME(pool_forward), NAME(pool_backward), WORD};

#undef PIXELS
#undef GET
#undef PUT
#undef WHERE
#undef RELU
#undef PASSED
#undef vec
#undef ints
