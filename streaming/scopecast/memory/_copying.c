/* What `memory/copying.py` needs of the processor: a fence and, on x86-64, copies that leave the caches alone.
 *
 * memcpy() reads each line of the target before it writes it, and pushes everything else out of the caches. Streaming
 * (non-temporal) stores do neither: for frames of megabytes, half of whose traffic is that reading, they are the faster
 * way, and they leave the caches to the acquisition. Chapter 9 of Intel's Optimization Reference Manual describes them.
 *
 * The stable ABI of Python 3.11: one build for all later ones.
 */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#define STREAMS 1
#include <immintrin.h>
#else
#define STREAMS 0 /* elsewhere numpy's memcpy() is as good as anything that was measured */
#endif

#if defined(__GNUC__)
#define full_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#elif defined(_M_X64)
#define full_fence() _mm_mfence()
#elif defined(_M_ARM64)
#include <intrin.h>
#define full_fence() __dmb(_ARM64_BARRIER_ISH)
#else
#error "no fence is known for this compiler"
#endif

static PyObject *
copying_fence(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(arguments))
{
    full_fence();
    return Py_NewRef(Py_None);
}

#if STREAMS

#define LINE 64 /* bytes of a cache line, which a streaming store should fill as a whole */
/* What is read is fetched this many bytes ahead, and not kept in the caches either. Past the end that has no effect. */
#define AHEAD 1024

#if defined(__GNUC__)
#define WITH_AVX2 __attribute__((target("avx2")))
#define has_avx2() __builtin_cpu_supports("avx2")

WITH_AVX2 static void
stream_32(char *target, const char *source, size_t nbytes)
{
    for (size_t i = 0; i < nbytes; i += LINE) {
        _mm_prefetch(source + i + AHEAD, _MM_HINT_NTA);
        __m256i a = _mm256_loadu_si256((const __m256i *)(source + i));
        __m256i b = _mm256_loadu_si256((const __m256i *)(source + i + 32));
        _mm256_stream_si256((__m256i *)(target + i), a);
        _mm256_stream_si256((__m256i *)(target + i + 32), b);
    }
}
#endif

static void
stream_16(char *target, const char *source, size_t nbytes)
{
    for (size_t i = 0; i < nbytes; i += LINE) {
        _mm_prefetch(source + i + AHEAD, _MM_HINT_NTA);
        __m128i a = _mm_loadu_si128((const __m128i *)(source + i));
        __m128i b = _mm_loadu_si128((const __m128i *)(source + i + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(source + i + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(source + i + 48));
        _mm_stream_si128((__m128i *)(target + i), a);
        _mm_stream_si128((__m128i *)(target + i + 16), b);
        _mm_stream_si128((__m128i *)(target + i + 32), c);
        _mm_stream_si128((__m128i *)(target + i + 48), d);
    }
}

/* Copy between memory that does not overlap. */
static void
stream(char *target, const char *source, size_t nbytes)
{
    /* Streaming stores are ordered with nothing: none may be seen before what was stored earlier, such as the odd
     * generation by which a receiver knows that the slot is written, */
    _mm_sfence();
    size_t head = (LINE - (uintptr_t)target % LINE) % LINE; /* bytes up to the target's first whole line */
    if (head > nbytes) {
        head = nbytes;
    }
    memcpy(target, source, head);
    size_t body = (nbytes - head) / LINE * LINE;
#if defined(__GNUC__)
    if (has_avx2()) {
        stream_32(target + head, source + head, body);
    }
    else
#endif
    {
        stream_16(target + head, source + head, body);
    }
    memcpy(target + head + body, source + head + body, nbytes - head - body);
    /* and whoever is told next that the frame is whole must see all of it. */
    _mm_sfence();
}

/* So few bytes are copied in 0.1 ms; to get the interpreter's lock back from a thread that computes takes 5 ms. */
#define HELD_BYTES (1 << 20)

static PyObject *
copying_stream(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Py_buffer target, source;
    PyObject *result = NULL;
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "stream() takes a target and a source, not %zd arguments", count);
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[0], &target, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[1], &source, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&target);
        return NULL;
    }
    const char *to = target.buf, *from = source.buf;
    if (target.len != source.len) {
        PyErr_Format(PyExc_ValueError, "a source of %zd bytes does not fill a target of %zd", source.len, target.len);
    }
    else if (from < to + target.len && to < from + source.len) {
        PyErr_SetString(PyExc_ValueError, "the source overlaps the target");
    }
    else if (target.len < HELD_BYTES) {
        stream(target.buf, source.buf, (size_t)target.len);
        result = Py_NewRef(Py_None);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        stream(target.buf, source.buf, (size_t)target.len);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&source);
    PyBuffer_Release(&target);
    return result;
}

#endif /* STREAMS */

static PyMethodDef methods[] = {
    {"fence", copying_fence, METH_NOARGS,
     "fence()\n--\n\nHave the processor do all loads and stores before this before all that come after it."},
#if STREAMS
    {"stream", (PyCFunction)(void (*)(void))copying_stream, METH_FASTCALL,
     "stream(target, source, /)\n--\n\nCopy contiguous memory past the caches, without the interpreter's lock."},
#endif
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_copying", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__copying(void)
{
    return PyModuleDef_Init(&definition);
}
