"""The CUDA kernels of the CuPy backend: C++, for REAL = float or double and BLOCK threads a block.

Sums go through shared memory in a fixed order, never through atomics: the same input gives the
same bits. Indices have 64 bits. Kernels check nothing: the functions that launch them do.
"""

BLOCK = 256
"""Threads of a block; a power of two, which block_sum relies on."""

SOURCE = r"""
// --- each thread one number ------------------------------------------------------------------

#define EACH(i, size) \
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; \
    if (i >= size) return;

__device__ REAL activate(REAL x, REAL* slope) {
    const REAL gate = REAL(1) / (REAL(1) + exp(-x));
    const REAL y = x * gate;
    *slope = gate + y * (REAL(1) - gate);
    return y;
}

extern "C" __global__
void silu(const REAL* x, REAL* y, REAL* slope, long long size) {
    EACH(i, size)
    y[i] = activate(x[i], slope + i);
}

// h holds the product of the weights, and receives the layer's output. The embedding's part of
// it, shift, is one row for all or as many rows as h.
extern "C" __global__
void entry_layer(const REAL* shift, const REAL* bias, REAL* h, REAL* slope,
                 long long shift_size, long long n, long long size) {
    EACH(i, size)
    h[i] = activate(h[i] + (shift[i % shift_size] + bias[i % n]), slope + i);
}

extern "C" __global__
void hidden_layer(const REAL* before, const REAL* bias, REAL* h, REAL* slope,
                  long long n, long long size) {
    EACH(i, size)
    h[i] = before[i] + activate(h[i] + bias[i % n], slope + i);
}

// dh grows by what came back through the layer above; dz goes into the one below.
extern "C" __global__
void hidden_layer_backward(const REAL* change, const REAL* slope, REAL* dh, REAL* dz,
                           long long size) {
    EACH(i, size)
    const REAL sum = dh[i] + change[i];
    dh[i] = sum;
    dz[i] = sum * slope[i];
}

extern "C" __global__
void adam(const REAL* param, const REAL* grad, const REAL* m, const REAL* v,
          REAL* new_param, REAL* new_m, REAL* new_v,
          REAL beta_1, REAL rest_1, REAL beta_2, REAL rest_2,
          REAL unbias, REAL epsilon, REAL keep, REAL rate, long long size) {
    EACH(i, size)
    const REAL g = grad[i];
    const REAL a = beta_1 * m[i] + rest_1 * g;
    const REAL b = beta_2 * v[i] + rest_2 * (g * g);
    new_m[i] = a;
    new_v[i] = b;
    new_param[i] = keep * param[i] - rate * (a / (sqrt(b) * unbias + epsilon));
}

extern "C" __global__
void ema(const REAL* average, const REAL* value, REAL* result, REAL decay, REAL rest,
         long long size) {
    EACH(i, size)
    result[i] = decay * average[i] + rest * value[i];
}

// --- sums ------------------------------------------------------------------------------------

// Sum of the values of all threads of a block, in a fixed order, for all of them.
__device__ REAL block_sum(REAL value) {
    __shared__ REAL part[BLOCK];
    __syncthreads();  // every thread has read the last sum
    part[threadIdx.x] = value;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    return part[0];
}

// part receives one sum for each block; mean adds them up.
extern "C" __global__
void squared_error(const REAL* prediction, const REAL* truth, REAL* dprediction, REAL* part,
                   REAL weight, REAL scale, long long size) {
    REAL total = 0;
    for (long long i = blockIdx.x * (long long)BLOCK + threadIdx.x; i < size;
         i += gridDim.x * (long long)BLOCK) {
        const REAL error = prediction[i] - truth[i];
        total += weight * error * error;
        dprediction[i] = scale * error;
    }
    total = block_sum(total);
    if (threadIdx.x == 0) part[blockIdx.x] = total;
}

extern "C" __global__
void mean(const REAL* part, REAL* result, long long parts, long long size) {
    REAL total = 0;
    for (long long i = threadIdx.x; i < parts; i += BLOCK) total += part[i];
    total = block_sum(total);
    if (threadIdx.x == 0) *result = total / REAL(size);
}

// --- group normalisation: a block for each example and group ---------------------------------

// Arrays have shape (examples, pixels, n). A thread always sees one channel, or every width-th,
// and every rows-th pixel of it; those that are left over at the end of the block see none.
#define GROUP \
    const long long members = n / groups, group = blockIdx.x % groups * members; \
    const long long example = blockIdx.x / groups, start = example * pixels * n + group; \
    const long long width = members < BLOCK ? members : BLOCK, rows = BLOCK / width; \
    const long long lane = threadIdx.x % width; \
    const long long row = threadIdx.x < rows * width ? threadIdx.x / width : pixels; \
    const REAL count = REAL(pixels * members);
#define EACH_OF_GROUP(i, j) \
    for (long long j = lane; j < members; j += width) \
        for (long long p = row, i = start + row * n + j; p < pixels; p += rows, i += rows * n)

extern "C" __global__
void group_norm(const REAL* x, const REAL* gain, const REAL* shift, REAL* y, REAL* normal,
                REAL* scale, REAL epsilon, long long pixels, long long n, long long groups) {
    GROUP
    gain += example * n + group;
    shift += example * n + group;
    REAL total = 0;
    EACH_OF_GROUP(i, j) total += x[i];
    const REAL centre = block_sum(total) / count;
    total = 0;
    EACH_OF_GROUP(i, j) total += (x[i] - centre) * (x[i] - centre);
    const REAL inverse = REAL(1) / sqrt(block_sum(total) / count + epsilon);
    if (threadIdx.x == 0) scale[blockIdx.x] = inverse;
    EACH_OF_GROUP(i, j) {
        const REAL value = (x[i] - centre) * inverse;
        normal[i] = value;
        y[i] = gain[j] * value + shift[j];
    }
}

extern "C" __global__
void group_norm_backward(const REAL* dy, const REAL* normal, const REAL* scale, const REAL* gain,
                         REAL* dx, REAL* dgain, REAL* dshift,
                         long long pixels, long long n, long long groups) {
    __shared__ REAL shifts[BLOCK], gains[BLOCK];
    GROUP
    gain += example * n + group;
    dgain += example * n + group;
    dshift += example * n + group;
    REAL level = 0, along = 0;
    for (long long top = 0; top < members; top += width) {  // once, or there is only one row
        const long long j = top + lane;
        REAL of_shift = 0, of_gain = 0;
        if (j < members)
            for (long long p = row; p < pixels; p += rows) {
                const long long i = start + p * n + j;
                of_shift += dy[i];
                of_gain += dy[i] * normal[i];
            }
        shifts[threadIdx.x] = of_shift;
        gains[threadIdx.x] = of_gain;
        __syncthreads();
        if (threadIdx.x < width && j < members) {
            for (long long r = 1; r < rows; r++) {
                of_shift += shifts[r * width + lane];
                of_gain += gains[r * width + lane];
            }
            dshift[j] = of_shift;
            dgain[j] = of_gain;
            level += gain[j] * of_shift;
            along += gain[j] * of_gain;
        }
    }
    level = block_sum(level) / count;
    along = block_sum(along) / count;
    EACH_OF_GROUP(i, j) dx[i] = scale[blockIdx.x] * (gain[j] * dy[i] - level - normal[i] * along);
}

// --- convolution: a block for each pixel of the result ---------------------------------------

// The k x k pixels that it sees as one row of k * k * n numbers, 0 where they lie outside. Those
// in one line of the image lie side by side in memory.
extern "C" __global__
void patches(const REAL* x, REAL* result, long long height, long long width, long long n,
             long long rows, long long columns, long long k, long long stride) {
    const long long column = blockIdx.x % columns, row = blockIdx.x / columns % rows;
    const long long image = blockIdx.x / columns / rows;
    for (long long i = 0; i < k; i++) {
        const long long line = stride * row + i - k / 2;
        for (long long e = threadIdx.x; e < k * n; e += blockDim.x) {
            const long long at = (stride * column - k / 2) * n + e;
            const bool inside = line >= 0 && line < height && at >= 0 && at < width * n;
            result[(blockIdx.x * k + i) * k * n + e] =
                inside ? x[(image * height + line) * width * n + at] : REAL(0);
        }
    }
}

// --- noise -----------------------------------------------------------------------------------

// Four standard normal numbers from four words of Philox 4x64-10, Salmon et al. 2011, by the
// method of Box & Muller 1958. The words are those of numpy.random.Philox with this key and the
// counter (0, 0, part, step), which adds 1 before its first words.
extern "C" __global__
void normal(REAL* result, unsigned long long seed, unsigned long long stream,
            unsigned long long part, unsigned long long step, long long size) {
    const long long first = 4 * (blockIdx.x * (long long)blockDim.x + threadIdx.x);
    if (first >= size) return;
    unsigned long long word[4] = {first / 4 + 1ULL, 0, part, step};
    for (int round = 0; round < 10; round++) {
        const unsigned long long a = 0xD2E7470EE14C6C93ULL, b = 0xCA5A826395121157ULL;
        const unsigned long long high_a = __umul64hi(a, word[0]), high_b = __umul64hi(b, word[2]);
        const unsigned long long low_a = a * word[0], low_b = b * word[2];
        word[0] = high_b ^ word[1] ^ seed;
        word[1] = low_b;
        word[2] = high_a ^ word[3] ^ stream;
        word[3] = low_a;
        seed += 0x9E3779B97F4A7C15ULL;
        stream += 0xBB67AE8584CAA73BULL;
    }
    const REAL unit = REAL(5.421010862427522e-20);  // 2^-64
    for (int pair = 0; pair < 4; pair += 2) {
        // The odd number is never 0; float and double keep its leading bits, so that tails reach 9.
        const REAL radius = sqrt(REAL(-2) * log(unit * REAL(word[pair] | 1)));
        const REAL half_turns = REAL(2) * unit * REAL(word[pair + 1]);
        if (first + pair < size) result[first + pair] = radius * cospi(half_turns);
        if (first + pair + 1 < size) result[first + pair + 1] = radius * sinpi(half_turns);
    }
}
"""
