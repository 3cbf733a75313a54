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

/* The maximum over the taps, the number of the tap that had it (the first of several), or both. A NaN is the maximum, as in torch. */
INLINE void NAME(maximum)(const window *s, i64 images, const float *planes, float *out, int32_t *index) {
    for (i64 i = 0; i < flat_of(s, images); i += LANES) {
        vec best = NAME(load)(planes + s->offset[0] + i);
        ints where = {0};
        for (i64 t = 1; t < s->taps; t++) {
            vec v = NAME(load)(planes + s->offset[t] + i);
            ints more = (v > best) | (v != v);
            best = (vec)((more & (ints)v) | (~more & (ints)best));
            where = (more & (int32_t)t) | (~more & where);
        }
        if (out) NAME(store)(out + i, best);
        if (index) *(ints *)(index + i) = where;
    }
}

/* What a window's maximum came from gets its gradient. */
static void NAME(maximum_back)(const window *s, i64 images, const float *grads, const int32_t *index, float *backs) {
    for (i64 phase = 0; phase < s->phases; phase++) {
        i64 start, end;
        rows_of(s, phase, images, &start, &end);
        for (i64 i = start; i < end; i += LANES) {
            vec sum = {0};
            for (i64 k = s->begin[phase]; k < s->begin[phase + 1]; k++) {
                i64 t = s->order[k], at = i - s->within[t];
                sum += NAME(where)(*(const ints *)(index + at) == (int32_t)t, NAME(load)(grads + at));
            }
            NAME(store)(backs + phase * s->plane + i, sum);
        }
    }
}

typedef struct {
    const pooling *p;
    window win;
    i64 planes;
} NAME(pool);

static void NAME(pool_forward_chunk)(void *given, i64 chunk) {
    const NAME(pool) *all = given;
    const pooling *p = all->p;
    const window *s = &all->win;
    i64 area = p->height * p->width, pixels = p->out_height * p->out_width, size = s->phases * s->plane, flat_n = ROUND(flat_of(s, s->strip), 64) + 64;
    float *planes = scratch_of(size + flat_n + pixels), *flat = planes + size, *counts = flat + flat_n, ones[MOST_TAPS];
    for (i64 i = 0; i < size; i++) planes[i] = p->maximum ? -INFINITY : 0;
    for (i64 t = 0; t < s->taps; t++) ones[t] = 1;
    if (!p->maximum) NAME(pool_counts)(p, counts);
    i64 end = (chunk + 1) * all->planes < p->batch * p->channels ? (chunk + 1) * all->planes : p->batch * p->channels;
    for (i64 plane = chunk * all->planes, m; plane < end; plane += m) {
        m = end - plane < s->strip ? end - plane : s->strip;
        for (i64 k = 0; k < m; k++) NAME(scatter)(s, NAME(plane_of)(p, p->in, p->in_step, area, plane + k), planes + k * s->period);
        if (p->maximum)
            NAME(maximum)(s, m, planes, flat, NULL);
        else
            NAME(correlate)(planes, s->offset, ones, s->taps, flat, flat_of(s, m));
        for (i64 k = 0; k < m; k++) {
            float *out = p->out + (plane + k) * pixels;
            NAME(compact)(s, flat + k * s->period, out);
            for (i64 i = 0; !p->maximum && i < pixels; i++) out[i] /= counts[i];
        }
    }
}

static void NAME(pool_backward_chunk)(void *given, i64 chunk) {
    const NAME(pool) *all = given;
    const pooling *p = all->p;
    const window *s = &all->win;
    i64 area = p->height * p->width, pixels = p->out_height * p->out_width, size = s->phases * s->plane;
    float *planes = scratch_of(2 * size + 2 * s->grad_plane + 2 * pixels), *grads = planes + size, *backs = grads + s->grad_plane;
    float *counts = backs + size, *divided = counts + pixels, ones[MOST_TAPS];
    int32_t *index = (int32_t *)(divided + pixels);
    memset(grads, 0, sizeof(float) * (s->grad_plane + size));
    for (i64 i = 0; i < size; i++) planes[i] = -INFINITY;
    for (i64 i = 0; i < s->grad_plane; i++) index[i] = -1;
    for (i64 t = 0; t < s->taps; t++) ones[t] = 1;
    if (!p->maximum) NAME(pool_counts)(p, counts);
    i64 end = (chunk + 1) * all->planes < p->batch * p->channels ? (chunk + 1) * all->planes : p->batch * p->channels;
    for (i64 plane = chunk * all->planes, m; plane < end; plane += m) {
        m = end - plane < s->strip ? end - plane : s->strip;
        for (i64 k = 0; k < m; k++) {
            const float *grad = NAME(plane_of)(p, p->grad_out, p->grad_step, pixels, plane + k);
            for (i64 i = 0; i < pixels; i++) divided[i] = p->maximum ? grad[i] : grad[i] / counts[i];
            NAME(expand)(s, divided, grads + s->lead + k * s->period);
            if (p->maximum) NAME(scatter)(s, NAME(plane_of)(p, p->in, p->in_step, area, plane + k), planes + k * s->period);
        }
        if (m < s->strip) memset(grads + s->lead + m * s->period, 0, sizeof(float) * (s->strip - m) * s->period);
        if (p->maximum) {
            NAME(maximum)(s, m, planes, NULL, index + s->lead);
            NAME(maximum_back)(s, m, grads + s->lead, index + s->lead, backs);
        } else {
            NAME(depthwise_back)(s, m, grads + s->lead, ones, backs);
        }
        for (i64 k = 0; k < m; k++) NAME(gather)(s, backs + k * s->period, p->grad_in + (plane + k) * area);
    }
}

static void NAME(pool_forward)(const pooling *p, i64 threads) {
    NAME(pool) all = {.p = p};
    all.win = NAME(pool_window)(p, &all.planes);
    for_each(NAME(pool_forward_chunk), &all, (p->batch * p->channels + all.planes - 1) / all.planes, threads);
}

static void NAME(pool_backward)(const pooling *p, i64 threads) {
    NAME(pool) all = {.p = p};
    all.win = NAME(pool_window)(p, &all.planes);
    for_each(NAME(pool_backward_chunk), &all, (p->batch * p->channels + all.planes - 1) / all.planes, threads);
}
