/* Maximum and average of windows, both ways. Part of body.h: compiled for each width of vectors. */

/* The window of a pooling, over strips of planes of whatever image and channel, and how many planes are one piece of work. */
static window NAME(pool_window)(const pooling *p, i64 *planes) {
    i64 area = p->height * p->width, pixels = p->out_height * p->out_width;
    *planes = area >= 4096 ? 1 : 4096 / area;
    return window_of(p->height, p->width, p->out_height, p->out_width, p->kernel_h, p->kernel_w, p->stride_h, p->stride_w, p->dilation,
                     p->top, p->left, strip_images(tile_images(*planes, pixels), pixels));
}

INLINE const float *NAME(plane_of)(const pooling *p, const float *from, i64 step, i64 area, i64 plane) {
    return from + plane / p->channels * step + plane % p->channels * area;
}

/* By how much each output pixel's sum is divided: the pixels in its window, without the padding unless that counts. */
static void NAME(pool_counts)(const pooling *p, float *counts) {
    for (i64 y = 0; y < p->out_height; y++)
        for (i64 x = 0; x < p->out_width; x++) {
            i64 top = y * p->stride_h - p->top, left = x * p->stride_w - p->left, bottom = top + p->kernel_h, right = left + p->kernel_w;
            if (!p->counts_padding) {
                top = top < 0 ? 0 : top, left = left < 0 ? 0 : left;
                bottom = bottom > p->height ? p->height : bottom, right = right > p->width ? p->width : right;
            }
            counts[y * p->out_width + x] = (float)((bottom - top) * (right - left));
        }
}

/* out[i] = the maximum over the taps of in[offset + i], and which tap had it (the first of several). A NaN is the maximum, as in torch. */
INLINE void NAME(maximum_of)(const float *in, const i64 *offset, i64 taps, float *out, int32_t *index, i64 length) {
    for (i64 i = 0; i < length; i += LANES) {
        vec best = NAME(load)(in + offset[0] + i);
        ints which = {0};
        for (i64 t = 1; t < taps; t++) {
            vec v = NAME(load)(in + offset[t] + i);
            ints more = (v > best) | (v != v);
            best = (vec)((more & (ints)v) | (~more & (ints)best));
            if (index) which = (more & (int32_t)t) | (~more & which);
        }
        NAME(store)(out + i, best);
        if (index) *(ints *)(index + i) = which;
    }
}

static void NAME(maximum)(const float *in, const i64 *offset, i64 taps, float *out, int32_t *index, i64 length) {
    switch (2 * taps + !index) {
#define CASE(n) case 2 * n: NAME(maximum_of)(in, offset, n, out, index, length); break; \
                case 2 * n + 1: NAME(maximum_of)(in, offset, n, out, NULL, length); break;
        CASE(2) CASE(3) CASE(5) CASE(7)
#undef CASE
        default: NAME(maximum_of)(in, offset, taps, out, index, length);
    }
}

/* The opposite: out[i] = the sum of the gradients [i - back] whose maximum came from that tap. */
INLINE void NAME(route_of)(const float *grads, const int32_t *index, const i64 *tap, const i64 *back, i64 taps, float *out, i64 length) {
    for (i64 i = 0; i < length; i += LANES) {
        vec sum = {0};
        for (i64 k = 0; k < taps; k++)
            sum += NAME(where)(*(const ints *)(index + i + back[k]) == (int32_t)tap[k], NAME(load)(grads + i + back[k]));
        NAME(store)(out + i, sum);
    }
}

static void NAME(route)(const float *grads, const int32_t *index, const i64 *tap, const i64 *back, i64 taps, float *out, i64 length) {
    switch (taps) {
#define CASE(n) case n: NAME(route_of)(grads, index, tap, back, n, out, length); break;
        CASE(1) CASE(2) CASE(3) CASE(5) CASE(7)
#undef CASE
        default: NAME(route_of)(grads, index, tap, back, taps, out, length);
    }
}

/* A pooling's window is as good as a row of pixels and then a column of such rows: k + k taps, and the same pixel comes first. */
typedef struct {
    const pooling *p;
    window win;
    i64 planes;                              /* of a piece of work */
    i64 across[MOST_TAPS], down[MOST_TAPS];  /* the taps of a row, and of a column of rows */
    float ones[MOST_TAPS];
} NAME(pool);

static NAME(pool) NAME(pool_of)(const pooling *p) {
    NAME(pool) all = {.p = p};
    all.win = NAME(pool_window)(p, &all.planes);
    for (i64 k = 0; k < p->kernel_w; k++) all.across[k] = k % p->stride_w * all.win.plane + k / p->stride_w;
    for (i64 k = 0; k < p->kernel_h; k++) all.down[k] = k % p->stride_h * all.win.grad_plane + k / p->stride_h * all.win.row;
    for (i64 t = 0; t < MOST_TAPS; t++) all.ones[t] = 1;
    return all;
}

/* The taps of one phase of a line, and where their gradients stand as seen from the pixel. */
static i64 NAME(taps_of)(i64 kernel, i64 stride, i64 phase, i64 step, i64 *tap, i64 *back) {
    i64 n = 0;
    for (i64 k = phase; k < kernel; k += stride, n++) tap[n] = k, back[n] = -(k / stride * step);
    return n;
}

static void NAME(pool_forward_chunk)(void *given, i64 chunk) {
    const NAME(pool) *all = given;
    const pooling *p = all->p;
    const window *s = &all->win;
    i64 area = p->height * p->width, pixels = p->out_height * p->out_width, size = s->phases * s->plane, tall = p->stride_h * s->grad_plane;
    float *planes = scratch_of(size + tall + s->grad_plane + pixels), *lines = planes + size, *flat = lines + tall;
    float *counts = flat + s->grad_plane;
    for (i64 i = 0; i < size; i++) planes[i] = p->maximum ? -INFINITY : 0;
    if (!p->maximum) NAME(pool_counts)(p, counts);
    i64 end = (chunk + 1) * all->planes < p->batch * p->channels ? (chunk + 1) * all->planes : p->batch * p->channels;
    for (i64 plane = chunk * all->planes, m; plane < end; plane += m) {
        m = end - plane < s->strip ? end - plane : s->strip;
        for (i64 k = 0; k < m; k++) NAME(scatter)(s, NAME(plane_of)(p, p->in, p->in_step, area, plane + k), planes + k * s->period);
        for (i64 phase = 0; phase < p->stride_h; phase++) {
            const float *from = planes + phase * s->stride_w * s->plane;
            float *to = lines + phase * s->grad_plane;
            if (p->maximum)
                NAME(maximum)(from, all->across, p->kernel_w, to, NULL, lines_of(s, m));
            else
                NAME(correlate)(from, all->across, all->ones, p->kernel_w, to, lines_of(s, m));
        }
        if (p->maximum)
            NAME(maximum)(lines, all->down, p->kernel_h, flat, NULL, flat_of(s, m));
        else
            NAME(correlate)(lines, all->down, all->ones, p->kernel_h, flat, flat_of(s, m));
        for (i64 k = 0; k < m; k++) {
            float *out = p->out + (plane + k) * pixels;
            NAME(compact)(s, flat + k * s->period, out);
            for (i64 i = 0; !p->maximum && i < pixels; i++) out[i] /= counts[i];
        }
    }
}

/* Gradients of a strip's outputs, back to lines of pixels and to pixels. What is beside an output has the gradient 0. */
static void NAME(pool_back)(const NAME(pool) *all, i64 m, const float *grads, const int32_t *rows, float *lines, const int32_t *columns,
                            float *backs) {
    const pooling *p = all->p;
    const window *s = &all->win;
    i64 tap[MOST_TAPS], back[MOST_TAPS];
    for (i64 phase = 0; phase < p->stride_h; phase++) {
        i64 taps = NAME(taps_of)(p->kernel_h, p->stride_h, phase, s->row, tap, back);
        float *to = lines + phase * s->grad_plane;
        if (p->maximum)
            NAME(route)(grads, rows, tap, back, taps, to, lines_of(s, m));
        else
            NAME(correlate)(grads, back, all->ones, taps, to, lines_of(s, m));
        for (i64 side = 0; side < p->stride_w; side++) {
            i64 which = phase * p->stride_w + side, start, end;
            taps = NAME(taps_of)(p->kernel_w, p->stride_w, side, 1, tap, back);
            rows_of(s, which, m, &start, &end);
            float *pixels = backs + which * s->plane + start;
            if (p->maximum)
                NAME(route)(to + start, columns + phase * s->grad_plane + start, tap, back, taps, pixels, end - start);
            else
                NAME(correlate)(to + start, back, all->ones, taps, pixels, end - start);
        }
    }
}

static void NAME(pool_backward_chunk)(void *given, i64 chunk) {
    const NAME(pool) *all = given;
    const pooling *p = all->p;
    const window *s = &all->win;
    i64 area = p->height * p->width, pixels = p->out_height * p->out_width, size = s->phases * s->plane, each = s->grad_plane;
    i64 tall = p->stride_h * each, zeroed = 3 * each + 3 * tall;
    float *planes = scratch_of(2 * size + 2 * pixels + zeroed), *backs = planes + size, *counts = backs + size, *divided = counts + pixels;
    float *grads = divided + pixels + s->lead, *lines = grads + each, *maxima = lines + tall, *out = maxima + tall; /* each after zeros */
    int32_t *columns = (int32_t *)(out + each), *rows = columns + tall;
    memset(divided + pixels, 0, sizeof(float) * zeroed);
    for (i64 i = 0; i < size; i++) planes[i] = -INFINITY;
    if (!p->maximum) NAME(pool_counts)(p, counts);
    i64 end = (chunk + 1) * all->planes < p->batch * p->channels ? (chunk + 1) * all->planes : p->batch * p->channels;
    for (i64 plane = chunk * all->planes, m; plane < end; plane += m) {
        m = end - plane < s->strip ? end - plane : s->strip;
        for (i64 k = 0; k < m; k++) {
            const float *grad = NAME(plane_of)(p, p->grad_out, p->grad_step, pixels, plane + k);
            for (i64 i = 0; i < pixels && !p->maximum; i++) divided[i] = grad[i] / counts[i];
            NAME(expand)(s, p->maximum ? grad : divided, grads + k * s->period);
            if (p->maximum) NAME(scatter)(s, NAME(plane_of)(p, p->in, p->in_step, area, plane + k), planes + k * s->period);
        }
        if (m < s->strip) memset(grads + m * s->period, 0, sizeof(float) * (s->strip - m) * s->period);
        for (i64 phase = 0; phase < p->stride_h && p->maximum; phase++)
            NAME(maximum)(planes + phase * s->stride_w * s->plane, all->across, p->kernel_w, maxima + phase * each, columns + phase * each,
                          lines_of(s, m));
        if (p->maximum) NAME(maximum)(maxima, all->down, p->kernel_h, out, rows, flat_of(s, m));
        NAME(pool_back)(all, m, grads, rows, lines, columns, backs);
        for (i64 k = 0; k < m; k++) NAME(gather)(s, backs + k * s->period, p->grad_in + (plane + k) * area);
    }
}

static void NAME(pool_forward)(const pooling *p, i64 threads) {
    NAME(pool) all = NAME(pool_of)(p);
    for_each(NAME(pool_forward_chunk), &all, (p->batch * p->channels + all.planes - 1) / all.planes, threads);
}

static void NAME(pool_backward)(const pooling *p, i64 threads) {
    NAME(pool) all = NAME(pool_of)(p);
    for_each(NAME(pool_backward_chunk), &all, (p->batch * p->channels + all.planes - 1) / all.planes, threads);
}
