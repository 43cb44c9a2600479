/* What `remote/companding.py` does with pixels of 8 and 16 bits, in one pass and without the interpreter's lock.
 *
 * numpy has no lookup that keeps to small integers, and averages blocks in several passes: both take ten times as long.
 * Every byte is the same as numpy's: only integers are computed here, and tables hold the rest.
 *
 * The stable ABI of Python 3.11: one build for all later ones.
 */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

/* A plane (y, x, samples) of pixels in rows without gaps, and the same with blocks of step x step pixels as one. */
typedef struct {
    Py_ssize_t height, width, samples, step;
    Py_ssize_t lines, columns; /* of blocks; the last ones may be cut off */
} Plane;

static uint32_t
pixel(const unsigned char *at, int bytes)
{
    if (bytes == 1) {
        return *at;
    }
    uint16_t value; /* may lie at an odd address */
    memcpy(&value, at, sizeof value);
    return value;
}

/* The table's entry for the mean of each block. Called with constants for `bytes` and `step`, for which it is compiled. */
static inline void
compand_blocks(unsigned char *target, const unsigned char *source, const unsigned char *table, const Plane *plane,
               int bytes, Py_ssize_t step)
{
    const Py_ssize_t samples = plane->samples, row = plane->width * samples;
    for (Py_ssize_t line = 0; line < plane->lines; line++) {
        const Py_ssize_t top = line * step;
        const Py_ssize_t high = plane->height - top < step ? plane->height - top : step;
        const unsigned char *first = source + top * row * bytes;
        const Py_ssize_t whole = high == step ? plane->width / step : 0; /* blocks that are not cut off */
        for (Py_ssize_t column = 0; column < whole; column++) {
            for (Py_ssize_t sample = 0; sample < samples; sample++) {
                const unsigned char *block = first + (column * step * samples + sample) * bytes;
                uint32_t sum = (uint32_t)(step * step / 2);
                for (Py_ssize_t y = 0; y < step; y++) {
                    for (Py_ssize_t x = 0; x < step; x++) {
                        sum += pixel(block + (y * row + x * samples) * bytes, bytes);
                    }
                }
                *target++ = table[sum / (uint32_t)(step * step)];
            }
        }
        for (Py_ssize_t column = whole; column < plane->columns; column++) {
            const Py_ssize_t left = column * step;
            const Py_ssize_t wide = plane->width - left < step ? plane->width - left : step;
            const uint32_t count = (uint32_t)(high * wide);
            for (Py_ssize_t sample = 0; sample < samples; sample++) {
                uint32_t sum = count / 2;
                for (Py_ssize_t y = 0; y < high; y++) {
                    for (Py_ssize_t x = 0; x < wide; x++) {
                        sum += pixel(first + (y * row + (left + x) * samples + sample) * bytes, bytes);
                    }
                }
                *target++ = table[sum / count];
            }
        }
    }
}

static void
compand(unsigned char *target, const unsigned char *source, const unsigned char *table, const Plane *plane, int bytes)
{
    if (bytes == 1) {
        switch (plane->step) {
        case 1: compand_blocks(target, source, table, plane, 1, 1); break;
        case 2: compand_blocks(target, source, table, plane, 1, 2); break;
        default: compand_blocks(target, source, table, plane, 1, 4);
        }
    }
    else {
        switch (plane->step) {
        case 1: compand_blocks(target, source, table, plane, 2, 1); break;
        case 2: compand_blocks(target, source, table, plane, 2, 2); break;
        default: compand_blocks(target, source, table, plane, 2, 4);
        }
    }
}

/* The table's entry for each level, as all pixels of its block. Compiled for each number of bytes. */
static inline void
expand_blocks(unsigned char *target, const unsigned char *source, const unsigned char *table, const Plane *plane,
              size_t bytes)
{
    const Py_ssize_t samples = plane->samples, step = plane->step;
    const size_t row = (size_t)(plane->width * samples) * bytes;
    for (Py_ssize_t line = 0; line < plane->lines; line++) {
        unsigned char *at = target;
        if (step == 1) {
            for (Py_ssize_t i = 0; i < plane->width * samples; i++, at += bytes) {
                memcpy(at, table + *source++ * bytes, bytes);
            }
        }
        else {
            for (Py_ssize_t column = 0; column < plane->columns; column++, source += samples) {
                const Py_ssize_t left = column * step;
                const Py_ssize_t wide = plane->width - left < step ? plane->width - left : step;
                for (Py_ssize_t x = 0; x < wide; x++) {
                    for (Py_ssize_t sample = 0; sample < samples; sample++, at += bytes) {
                        memcpy(at, table + source[sample] * bytes, bytes);
                    }
                }
            }
        }
        target += row;
        for (Py_ssize_t y = 1; y < step && line * step + y < plane->height; y++, target += row) {
            memcpy(target, target - y * (Py_ssize_t)row, row);
        }
    }
}

static void
expand(unsigned char *target, const unsigned char *source, const unsigned char *table, const Plane *plane, int bytes)
{
    switch (bytes) {
    case 1: expand_blocks(target, source, table, plane, 1); break;
    case 2: expand_blocks(target, source, table, plane, 2); break;
    case 4: expand_blocks(target, source, table, plane, 4); break;
    default: expand_blocks(target, source, table, plane, 8);
    }
}

/* Read (target, source, table, height, width, samples, step), check that their sizes agree, and run one of the two. */
static PyObject *
run(PyObject *const *arguments, Py_ssize_t count, int compands)
{
    if (count != 7) {
        PyErr_Format(PyExc_TypeError, "a target, a source, a table, height, width, samples and step, not %zd arguments",
                     count);
        return NULL;
    }
    Plane plane;
    Py_ssize_t *fields[] = {&plane.height, &plane.width, &plane.samples, &plane.step};
    for (int i = 0; i < 4; i++) {
        *fields[i] = PyLong_AsSsize_t(arguments[3 + i]);
        if (*fields[i] == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    /* 2^30 each: no product below can exceed 63 bits. */
    const Py_ssize_t most = (Py_ssize_t)1 << 30;
    if (plane.height < 1 || plane.height > most || plane.width < 1 || plane.width > most || plane.samples < 1 ||
        plane.samples > 4 || plane.height > PY_SSIZE_T_MAX / 64 / plane.width ||
        (plane.step != 1 && plane.step != 2 && plane.step != 4)) {
        PyErr_Format(PyExc_ValueError, "no plane of %zd x %zd pixels with %zd samples, in blocks of %zd", plane.height,
                     plane.width, plane.samples, plane.step);
        return NULL;
    }
    plane.lines = (plane.height + plane.step - 1) / plane.step;
    plane.columns = (plane.width + plane.step - 1) / plane.step;
    Py_buffer target, source, table;
    PyObject *result = NULL;
    if (PyObject_GetBuffer(arguments[0], &target, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[1], &source, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&target);
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[2], &table, PyBUF_SIMPLE) < 0) {
        PyBuffer_Release(&source);
        PyBuffer_Release(&target);
        return NULL;
    }
    const Py_ssize_t pixels = plane.height * plane.width * plane.samples;
    const Py_ssize_t blocks = plane.lines * plane.columns * plane.samples;
    /* Bytes of a pixel: a table for companding has an entry of one byte for each value, one for expanding has 256. */
    Py_ssize_t bytes = compands ? (table.len == 256 ? 1 : table.len == 65536 ? 2 : 0) : table.len / 256;
    if (bytes != 1 && bytes != 2 && (compands || (bytes != 4 && bytes != 8))) {
        PyErr_Format(PyExc_ValueError, "no table has %zd bytes", table.len);
    }
    else if (!compands && table.len % 256) {
        PyErr_Format(PyExc_ValueError, "no table has %zd bytes", table.len);
    }
    else if (source.len != (compands ? pixels * bytes : blocks) || target.len != (compands ? blocks : pixels * bytes)) {
        PyErr_Format(PyExc_ValueError, "a source of %zd bytes and a target of %zd, which a plane of %zd x %zd x %zd has not",
                     source.len, target.len, plane.height, plane.width, plane.samples);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        (compands ? compand : expand)(target.buf, source.buf, table.buf, &plane, (int)bytes);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&table);
    PyBuffer_Release(&source);
    PyBuffer_Release(&target);
    return result;
}

static PyObject *
companding_compand(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    return run(arguments, count, 1);
}

static PyObject *
companding_expand(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    return run(arguments, count, 0);
}

static PyMethodDef methods[] = {
    {"compand", (PyCFunction)(void (*)(void))companding_compand, METH_FASTCALL,
     "compand(target, source, table, height, width, samples, step, /)\n--\n\n"
     "Look up the mean of each block of a plane in a table of bytes, without the interpreter's lock."},
    {"expand", (PyCFunction)(void (*)(void))companding_expand, METH_FASTCALL,
     "expand(target, source, table, height, width, samples, step, /)\n--\n\n"
     "Look up each byte in a table of pixels and fill its block of a plane, without the interpreter's lock."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_companding", .m_size = 0, .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__companding(void)
{
    return PyModuleDef_Init(&definition);
}
