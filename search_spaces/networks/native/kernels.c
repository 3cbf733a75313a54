/* Kernels for networks of cells that are trained or scored on a CPU: chains of convolutions and batch norms, and pooling.
 *
 * Everything works on planes: float32 states (batch, channels, height, width) whose rows, columns and channels are dense; only the
 * step from one image to the next is free, so that slices of a concatenation need no copy. Vectors run over pixels, so any number of
 * channels is as good as another: the children of a search have 1 to 8 of them, which is what torch's channels-last kernels are slow at.
 *
 * A plane that a window slides over is copied into a padded one, small enough for the first cache, in which every tap of the window is
 * one constant distance: a convolution is then a sum of shifted flat arrays, whatever its kernel, dilation and stride (a stride splits
 * the padded plane into phases). Rows share their padding with the next row.
 *
 * Work is cut into chunks of images by the shapes alone, every chunk has sums of its own, and these are added in order: the same bits
 * with any number of threads. The body is compiled for AVX-512, AVX2 and whatever the compiler's baseline is; `nas_kernels` chooses.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define MOST_TAPS 128   /* of a window: 11x11 and less */
#define MOST_PHASES 4   /* strides of at most 2 */
#define MOST_CHUNKS 16  /* parts of a batch with sums of their own: more would only help more threads */
#define CHUNK_PIXELS 512 /* fewer pixels are not worth a chunk */
#define STRIP_PIXELS 64  /* images of so many pixels are worked on in strips */
#define ROUND(n, to) (((n) + (to) - 1) / (to) * (to))

typedef int64_t i64;

/* Vectors of four, for rows and images of few pixels, and of one, so that what is left over is written as the rest is. */
typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t quads __attribute__((vector_size(16), aligned(4), may_alias));
typedef float lone __attribute__((vector_size(4), aligned(4), may_alias));
typedef int32_t lones __attribute__((vector_size(4), aligned(4), may_alias));

static float sum_of(quad v) { return (v[0] + v[1]) + (v[2] + v[3]); }

/* One convolution with what is around it, as operators.py packs it: all fields are 8 bytes wide.
 * relu on loading, then (depthwise: the window, and a 1x1 after it; else the window itself) and batch norm's statistics. */
typedef struct {
    i64 batch, in_channels, height, width, out_channels, out_height, out_width;
    i64 kernel_h, kernel_w, stride_h, stride_w, dilation, top, left;
    i64 depthwise; /* whether the window is that of a depthwise convolution before the 1x1 one */
    i64 split;     /* if not 0: the channels out that read the first tap alone; the others read the last one (a factorized reduction) */
    i64 relu, norm, relu_after;
    double eps, momentum;
    const float *depthwise_weight, *weight, *gamma, *beta;
    float *running_mean, *running_var;
    i64 *batches; /* seen by the moving statistics; null: these are the norm's, as in evaluation */
    float *between; /* (batch, in_channels, out_height, out_width): what the depthwise convolution made */
    float *made;    /* (batch, out_channels, ...): what the convolutions made, before the norm */
    float *norms;   /* 5 x out_channels: mean, 1 / deviation, scale, shift, spare */
    float *grad_depthwise, *grad_weight, *grad_gamma, *grad_beta;
    float *grad_in; /* (batch, in_channels, height, width), or null */
} unit;

typedef struct {
    i64 batch, channels, height, width, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w, dilation, top, left;
    i64 maximum, counts_padding;
    const float *in;
    i64 in_step;
    float *out;
    const float *grad_out;
    i64 grad_step;
    float *grad_in;
} pooling;

/* ------------------------------------------------------------------------------------------------ threads and scratch memory */

typedef void (*gomp)(void (*)(void *), void *, unsigned, unsigned);
static gomp gomp_parallel; /* of the OpenMP library that torch has loaded: a second pool of threads would fight with torch's */

typedef struct {
    void (*work)(void *, i64);
    void *context;
    atomic_long next;
    i64 count;
    unsigned mode;
} crowd;

static void join(void *given) {
    crowd *all = given;
#if defined(__SSE__)
    unsigned before = _mm_getcsr();
    _mm_setcsr(all->mode); /* whether denormals are zero is the caller's choice, for all threads */
#endif
    for (i64 i; (i = atomic_fetch_add(&all->next, 1)) < all->count;) all->work(all->context, i);
#if defined(__SSE__)
    _mm_setcsr(before);
#endif
}

static void for_each(void (*work)(void *, i64), void *context, i64 count, i64 threads) {
    crowd all = {work, context, 0, count, 0};
#if defined(__SSE__)
    all.mode = _mm_getcsr();
#endif
    if (gomp_parallel && threads > 1 && count > 1)
        gomp_parallel(join, &all, (unsigned)(threads < count ? threads : count), 0);
    else
        join(&all);
}

/* Every thread keeps its scratch memory: fresh pages cost more than what is done in them. */
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
typedef struct {
    size_t size;
    float *memory;
} scratch;

static void scratch_free(void *given) {
    free(((scratch *)given)->memory);
    free(given);
}
static void scratch_make(void) { pthread_key_create(&scratch_key, scratch_free); }

static float *scratch_of(size_t floats) {
    pthread_once(&scratch_once, scratch_make);
    scratch *mine = pthread_getspecific(scratch_key);
    if (!mine) {
        mine = calloc(1, sizeof *mine);
        pthread_setspecific(scratch_key, mine);
    }
    if (mine->size < floats) {
        free(mine->memory);
        mine->memory = aligned_alloc(64, ROUND(floats * sizeof(float), 4096));
        mine->size = floats;
    }
    return mine->memory;
}

/* ------------------------------------------------------------------------------------------------ windows on padded planes */

typedef struct {
    i64 taps, rows, row;             /* rows of a phase's plane, and floats from one to the next */
    i64 plane, phases;               /* floats of one phase's plane, slack for whole vectors included */
    i64 flat;                        /* floats from the first to the last pixel of an image's output, in such rows */
    i64 strip, period;               /* small images one below the other in one plane: how many, and floats from one to the next */
    i64 lead, grad_plane;            /* of a plane of output gradients: zeros before it, and all its floats */
    i64 stride_h, stride_w, top, left, height, width, out_height, out_width;
    i64 offset[MOST_TAPS];           /* of every tap, its phase's plane included */
    i64 within[MOST_TAPS];           /* of every tap in its phase's plane */
    i64 order[MOST_TAPS], begin[MOST_PHASES + 1]; /* the taps phase by phase, and where a phase's begin */
} window;

/* Zeros before and after a line's pixels that the next line can share, in all phases that are read; `all` is what a window's taps span. */
static i64 shared_padding(i64 length, i64 kernel, i64 stride, i64 dilation, i64 before, i64 all) {
    i64 share = INT64_MAX;
    for (i64 k = 0; k < kernel; k++) {
        i64 phase = k * dilation % stride, zeros = before > phase ? (before - phase + stride - 1) / stride : 0;
        i64 after = all - 1 - (before + length - 1 - phase) / stride;
        if (after < 0) after = 0;
        if (zeros < share) share = zeros;
        if (after < share) share = after;
    }
    return share;
}

static window window_of(i64 h, i64 w, i64 oh, i64 ow, i64 kh, i64 kw, i64 sh, i64 sw, i64 dilation, i64 top, i64 left, i64 strip) {
    window s = {.taps = kh * kw, .stride_h = sh, .stride_w = sw, .top = top, .left = left, .height = h, .width = w};
    s.out_height = oh, s.out_width = ow;
    i64 most_h = (kh - 1) * dilation / sh, most_w = (kw - 1) * dilation / sw, columns = ow + most_w;
    i64 share = shared_padding(w, kw, sw, dilation, left, columns);
    s.rows = oh + most_h;
    s.row = columns - share;
    s.flat = (oh - 1) * s.row + ow;
    s.strip = strip;
    s.period = (s.rows - shared_padding(h, kh, sh, dilation, top, s.rows)) * s.row;
    s.plane = ROUND((strip - 1) * s.period + s.rows * s.row + share + 64, 16);
    s.phases = sh * sw;
    s.lead = ROUND(most_h * s.row + most_w, 16);
    s.grad_plane = s.lead + s.plane + 64;
    for (i64 y = 0; y < kh; y++)
        for (i64 x = 0; x < kw; x++) {
            i64 t = y * kw + x, down = y * dilation, right = x * dilation;
            s.within[t] = down / sh * s.row + right / sw;
            s.offset[t] = (down % sh * sw + right % sw) * s.plane + s.within[t];
        }
    for (i64 phase = 0, n = 0; phase < s.phases; s.begin[++phase] = n)
        for (i64 t = 0; t < s.taps; t++)
            if (s.offset[t] / s.plane == phase) s.order[n++] = t;
    return s;
}

/* Floats from the first to the last pixel of the output of so many images in a strip. */
static i64 flat_of(const window *s, i64 images) { return (images - 1) * s->period + s->flat; }

/* Likewise of the lines that a window's rows of taps make: all rows of a phase's plane. */
static i64 lines_of(const window *s, i64 images) { return (images - 1) * s->period + (s->rows - 1) * s->row + s->out_width; }

/* From where to where the pixels of a phase stand in its plane, in whole rows, with so many images in the strip. */
static void rows_of(const window *s, i64 phase, i64 images, i64 *start, i64 *end) {
    i64 down = phase / s->stride_w, first = s->top > down ? (s->top - down + s->stride_h - 1) / s->stride_h : 0;
    i64 last = s->top + s->height - 1 < down ? -1 : (s->top + s->height - 1 - down) / s->stride_h;
    if (last >= s->rows) last = s->rows - 1;
    *start = first * s->row;
    *end = last < first ? *start : (images - 1) * s->period + (last + 1) * s->row;
}

/* ------------------------------------------------------------------------------------------------ chunks */

static i64 chunk_images(i64 batch, i64 pixels, i64 weights) {
    i64 chunks = weights > 65536 ? MOST_CHUNKS / 4 : MOST_CHUNKS;
    i64 images = (batch + chunks - 1) / chunks, least = (CHUNK_PIXELS + pixels - 1) / pixels;
    images = images > least ? images : least;
    return images < batch ? images : batch;
}

/* How many images go into a strip: large ones by themselves, since padding between images is more than what a call costs. */
static i64 strip_images(i64 tile, i64 pixels) { return pixels <= STRIP_PIXELS ? tile : 1; }

static i64 tile_images(i64 images, i64 pixels) {
    i64 tile = pixels >= CHUNK_PIXELS ? 1 : CHUNK_PIXELS / pixels;
    return tile < images ? tile : images;
}

/* ------------------------------------------------------------------------------------------------ products of matrices */

/* rows x terms weights, packed, and where each term's pixels are: row r of the result is the sum of weight[r, j] * in[offset[j] + i]. */
typedef struct {
    i64 rows, terms;
    float *packed;
    i64 *offset;
} product;

/* How many of `left` rows are taken next when at most `most` fit: the last two blocks are about equal. */
static i64 block_of(i64 left, i64 most) { return left <= most ? left : left >= 2 * most ? most : (left + 1) / 2; }

/* Entry (r, j) is weight[r * row + column[j]]; the product keeps `offset`. */
static product pack(i64 rows, i64 terms, const float *weight, i64 row, const i64 *column, i64 *offset, i64 most) {
    product p = {rows, terms, malloc(sizeof(float) * (rows * terms + 1)), offset};
    float *to = p.packed;
    for (i64 r = 0, take; r < rows; r += take) {
        take = block_of(rows - r, most);
        for (i64 j = 0; j < terms; j++)
            for (i64 k = 0; k < take; k++) *to++ = weight[(r + k) * row + column[j]];
    }
    return p;
}

static void unpack(product *p) {
    free(p->packed);
    free(p->offset);
}

/* ------------------------------------------------------------------------------------------------ one unit's pass over the batch */

typedef struct {
    unit *u;
    const float *x; /* what it reads, and with what it is loaded: scale * x + shift where there is a scale */
    i64 x_step;
    const float *scale, *shift, *mean;
    window win;
    i64 full;                 /* whether the dense convolution itself slides over padded planes */
    i64 groups, taps;         /* of the dense convolution: a split one has two groups of one tap */
    i64 images, chunks, tile, padded; /* images of a chunk and of a tile, and floats of a tile's row of pixels */
    product products[MOST_PHASES];
    double *moments;          /* chunks x channels x 2: mean and sum of squares; going back, the two sums of batch norm's gradient */
    const float *grad;        /* of what the unit made */
    i64 grad_step;
    const float *ga, *gb, *gc; /* gradient before the norm = ga * grad + gb * (made - mean) + gc */
    float *partial, *partial_depthwise; /* weight gradients of every chunk */
    double *sums;             /* chunks x in_channels x 2: the sums for the norm before this unit, or null */
    float *out;
    const float *addend;
    i64 addend_step;
} pass;

static i64 first_of(const pass *p, i64 chunk) { return chunk * p->images; }
static i64 last_of(const pass *p, i64 chunk) {
    i64 end = (chunk + 1) * p->images;
    return end < p->u->batch ? end : p->u->batch;
}
static i64 group_begin(const pass *p, i64 group) { return group ? p->u->split : 0; }
static i64 group_end(const pass *p, i64 group) { return p->groups > 1 && !group ? p->u->split : p->u->out_channels; }

static i64 split_tap(const pass *p, i64 group) { return group ? p->win.taps - 1 : 0; }

static pass pass_of(unit *u, const float *x, i64 x_step, const unit *before) {
    pass p = {.u = u, .x = x, .x_step = x_step};
    if (before && before->norm) {
        p.mean = before->norms;
        p.scale = before->norms + 2 * before->out_channels;
        p.shift = before->norms + 3 * before->out_channels;
    }
    i64 pixels = u->out_height * u->out_width;
    p.groups = u->split ? 2 : 1;
    p.taps = u->depthwise || u->split ? 1 : u->kernel_h * u->kernel_w;
    p.images = chunk_images(u->batch, pixels, u->out_channels * u->in_channels * p.taps);
    p.chunks = (u->batch + p.images - 1) / p.images;
    p.tile = tile_images(p.images, pixels);
    p.padded = ROUND(p.tile * pixels, 64);
    p.win = window_of(u->height, u->width, u->out_height, u->out_width, u->kernel_h, u->kernel_w, u->stride_h, u->stride_w, u->dilation,
                      u->top, u->left, strip_images(p.tile, pixels));
    p.full = !u->depthwise && (p.win.taps > 1 || p.win.phases > 1);
    return p;
}

/* The sums of all chunks, in order. */
static void add_parts(const float *parts, i64 chunks, i64 size, float *to) {
    for (i64 i = 0; i < size; i++) to[i] = parts[i];
    for (i64 chunk = 1; chunk < chunks; chunk++)
        for (i64 i = 0; i < size; i++) to[i] += parts[chunk * size + i];
}

/* ------------------------------------------------------------------------------------------------ the same for every processor */

typedef struct {
    void (*forward)(unit *, i64, const float *, i64, const float *, i64, float *, i64);
    void (*backward)(unit *, i64, const float *, i64, const float *, i64, i64);
    void (*pool_forward)(const pooling *, i64);
    void (*pool_backward)(const pooling *, i64);
    const char *name;
} kernels;

#define LANES 4
#define ROWS 4
#define OUTER 2
#define NAME(x) x##_portable
#define WORD "portable"
#include "body.h"
#undef LANES
#undef ROWS
#undef OUTER
#undef NAME
#undef WORD

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define LANES 8
#define ROWS 5
#define OUTER 3
#define NAME(x) x##_avx2
#define WORD "AVX2"
#include "body.h"
#undef LANES
#undef ROWS
#undef OUTER
#undef NAME
#undef WORD
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define LANES 16
#define ROWS 8
#define OUTER 4
#define NAME(x) x##_avx512
#define WORD "AVX-512"
#include "body.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

static const kernels *chosen = &kernels_portable;

/* Choose by the processor, at most `widest` bits wide; `parallel` is the address of GOMP_parallel, or null. The name of the choice. */
const char *nas_kernels(i64 widest, void *parallel) {
    gomp_parallel = (gomp)parallel;
    chosen = &kernels_portable;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    __builtin_cpu_init();
    if (widest >= 256 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) chosen = &kernels_avx2;
    if (widest >= 512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        chosen = &kernels_avx512;
#endif
    return chosen->name;
}

/* What operators.py may expect of the functions below: a library that was compiled for other sources is left alone. */
i64 nas_interface(void) { return 2; }

/* Run a chain of `count` units on x (whose images are x_step floats apart); out = the last one's norm, plus `addend` if there is one. */
void nas_chain_forward(unit *units, i64 count, const float *x, i64 x_step, const float *addend, i64 addend_step, float *out, i64 threads) {
    chosen->forward(units, count, x, x_step, addend, addend_step, out, threads);
}

/* Gradients of all weights of the chain and, where a unit has room for it, of what it reads; grad_out's images are grad_step apart. */
void nas_chain_backward(unit *units, i64 count, const float *x, i64 x_step, const float *grad_out, i64 grad_step, i64 threads) {
    chosen->backward(units, count, x, x_step, grad_out, grad_step, threads);
}

void nas_pool_forward(const pooling *p, i64 threads) { chosen->pool_forward(p, threads); }
void nas_pool_backward(const pooling *p, i64 threads) { chosen->pool_backward(p, threads); }
