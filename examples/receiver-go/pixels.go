package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// image is a frame that was copied.
type image struct {
	shape []int
	dtype string
	data  []byte
}

// sizeOf returns the bytes of a frame of this dtype and shape.
func sizeOf(dtype string, shape []int) (uint64, error) {
	native := "<"
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		native = ">"
	}
	if len(dtype) < 3 || !strings.Contains("|"+native, dtype[:1]) || !strings.Contains("buifc", dtype[1:2]) {
		return 0, fmt.Errorf("the dtype %q is none that we know", dtype)
	}
	bytes, err := strconv.ParseUint(dtype[2:], 10, 8)
	if err != nil || bytes > 16 || len(shape) == 0 {
		return 0, fmt.Errorf("%q of shape %v is no frame", dtype, shape)
	}
	for _, side := range shape {
		if side < 1 || bytes > math.MaxUint64>>31/uint64(side) {
			return 0, fmt.Errorf("the shape %v is none of a frame", shape)
		}
		bytes *= uint64(side)
	}
	return bytes, nil
}

// value returns how to read a number of this dtype; nil for those that have no order, and half floats.
func value(dtype string) (width int, at func([]byte) float64) {
	order := binary.NativeEndian
	switch dtype[1:] {
	case "b1", "u1":
		return 1, func(b []byte) float64 { return float64(b[0]) }
	case "i1":
		return 1, func(b []byte) float64 { return float64(int8(b[0])) }
	case "u2":
		return 2, func(b []byte) float64 { return float64(order.Uint16(b)) }
	case "i2":
		return 2, func(b []byte) float64 { return float64(int16(order.Uint16(b))) }
	case "u4":
		return 4, func(b []byte) float64 { return float64(order.Uint32(b)) }
	case "i4":
		return 4, func(b []byte) float64 { return float64(int32(order.Uint32(b))) }
	case "u8":
		return 8, func(b []byte) float64 { return float64(order.Uint64(b)) }
	case "i8":
		return 8, func(b []byte) float64 { return float64(int64(order.Uint64(b))) }
	case "f4":
		return 4, func(b []byte) float64 { return float64(math.Float32frombits(order.Uint32(b))) }
	case "f8":
		return 8, func(b []byte) float64 { return math.Float64frombits(order.Uint64(b)) }
	}
	return 0, nil
}

// extremes returns the smallest and the largest value that is a number.
func (i image) extremes() (least, most float64, ok bool) {
	width, at := value(i.dtype)
	if at == nil {
		return 0, 0, false
	}
	least, most = math.Inf(1), math.Inf(-1)
	for from := 0; from < len(i.data); from += width {
		this := at(i.data[from:])
		if this < least {
			least = this
		}
		if this > most {
			most = this
		}
	}
	return least, most, least <= most
}

// writePGM saves a grey image of 8 or 16 bits, which every image viewer opens.
func (i image) writePGM(path string) error {
	kind := i.dtype[1:]
	if len(i.shape) != 2 || (kind != "u1" && kind != "u2") {
		return fmt.Errorf("PGM holds grey images of 8 or 16 bits, and this is %v of %s", i.shape, i.dtype)
	}
	most, data := 255, i.data
	if kind == "u2" {
		most, data = 65535, make([]byte, len(i.data)) // big endian, by the format's definition
		for at := 0; at < len(data); at += 2 {
			binary.BigEndian.PutUint16(data[at:], binary.NativeEndian.Uint16(i.data[at:]))
		}
	}
	header := fmt.Sprintf("P5\n%d %d\n%d\n", i.shape[1], i.shape[0], most)
	return os.WriteFile(path, append([]byte(header), data...), 0o644)
}
