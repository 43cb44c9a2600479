package main

import (
	"bytes"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// A message is a MessagePack array: its name, then its elements in a fixed order. Elements that have a default may be
// missing from the end, and a later version may have appended some that we don't know.

type welcome struct {
	protocol  uint32
	token     string
	epoch     uint64
	segment   string
	heartbeat float64
}

type reject struct {
	protocolMin, protocolMax uint32
	reason                   string
	again                    bool
}

type stream struct {
	id     uint32
	title  string
	axes   []string
	labels map[string][]string
	// sizes, scale, steps, units, preview, colors: nothing that this program shows
}

type frame struct {
	stream     uint32
	sequence   uint64
	epoch      uint64
	slot       uint32
	generation uint64
	kind       string
	dtype      string
	shape      []int
	index      []int
	// sent_ns, path, translate, metadata, name
}

// split returns the name of a message and a decoder that stands at its first element, of which there are count.
func split(data []byte) (name string, elements *msgpack.Decoder, count int, err error) {
	elements = msgpack.NewDecoder(bytes.NewReader(data))
	if count, err = elements.DecodeArrayLen(); err != nil {
		return
	}
	if count < 1 {
		return "", nil, 0, fmt.Errorf("an empty message")
	}
	name, err = elements.DecodeString()
	return name, elements, count - 1, err
}

// read decodes elements into these variables, of which the first `needed` have no default.
func read(elements *msgpack.Decoder, count, needed int, into ...any) error {
	if count < needed {
		return fmt.Errorf("%d elements, and %d are needed", count, needed)
	}
	for i, each := range into {
		if i == count {
			break
		}
		if err := elements.Decode(each); err != nil {
			return err
		}
	}
	return nil
}

func (w *welcome) read(elements *msgpack.Decoder, count int) error {
	return read(elements, count, 5, &w.protocol, &w.token, &w.epoch, &w.segment, &w.heartbeat)
}

func (r *reject) read(elements *msgpack.Decoder, count int) error {
	return read(elements, count, 3, &r.protocolMin, &r.protocolMax, &r.reason, &r.again)
}

func (s *stream) read(elements *msgpack.Decoder, count int) error {
	return read(elements, count, 8, &s.id, &s.title, &s.axes, &s.labels)
}

func (f *frame) read(elements *msgpack.Decoder, count int) error {
	return read(elements, count, 10, &f.stream, &f.sequence, &f.epoch, &f.slot, &f.generation, &f.kind, &f.dtype,
		&f.shape, &f.index)
}

// message encodes a message of its name and its elements.
func message(name string, elements ...any) []byte {
	data, err := msgpack.Marshal(append([]any{name}, elements...))
	if err != nil {
		panic(err) // there are only numbers and texts in ours
	}
	return data
}
