package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// The header, as the table in the protocol's description has it: offsets of its fields.
const (
	atMagic     = 0
	atToken     = 8
	atVersion   = 24
	atEpoch     = 32
	atSlots     = 40
	atSlotBytes = 48
	atTable     = 56
	atPixels    = 64
	atTotal     = 72
	atState     = 80

	headerBytes = 88
	ready       = 0x5245414459
	page        = 4096
	maxSlots    = 256
	tableEntry  = 64
)

var isSegment = regexp.MustCompile(`\A[a-z][a-z0-9]{0,14}_[a-z2-7]{8}_[0-9a-z]{1,4}\z`)

// segment is a publisher's shared memory, mapped for reading.
type segment struct {
	file  *os.File
	data  []byte
	epoch uint64
	// From our own copy of the header, which nobody can change.
	slots, slotBytes, table, pixels, total uint64
}

func openSegment(name, token string, epoch uint64) (*segment, error) {
	if !isSegment.MatchString(name) {
		return nil, fmt.Errorf("%q is not the name of a segment", name)
	}
	file, err := openRegular("/dev/shm/" + name)
	if err != nil {
		return nil, err
	}
	s := &segment{file: file, epoch: epoch}
	if err := s.read(token); err != nil {
		file.Close()
		return nil, fmt.Errorf("the segment %s %w", name, err)
	}
	s.data, err = syscall.Mmap(int(file.Fd()), 0, int(s.total), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		file.Close()
		return nil, err
	}
	return s, nil
}

// read reads the header and checks it, before anything is mapped.
func (s *segment) read(token string) error {
	about, err := s.file.Stat()
	if err != nil {
		return err
	}
	if about.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) || about.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("is not this user's alone")
	}
	var header [headerBytes]byte
	if _, err := s.file.ReadAt(header[:], 0); err != nil {
		return err
	}
	at := func(offset int) uint64 { return binary.NativeEndian.Uint64(header[offset:]) }
	s.slots, s.slotBytes, s.table, s.pixels, s.total = at(atSlots), at(atSlotBytes), at(atTable), at(atPixels), at(atTotal)
	switch {
	case string(header[atMagic:atToken]) != "scopcast" || at(atVersion) != 1:
		return fmt.Errorf("is none that this program can read")
	case at(atState) != ready:
		return fmt.Errorf("is not complete yet")
	case strings.TrimRight(string(header[atToken:atVersion]), "\x00") != token || at(atEpoch) != s.epoch:
		return fmt.Errorf("is another's, or an older one")
	case s.slots < 1 || s.slots > maxSlots || s.slotBytes%page != 0 || s.slotBytes == 0 || s.slotBytes > 1<<40:
		return fmt.Errorf("has impossible sizes")
	case s.table != page || s.pixels != page+(s.slots*tableEntry+page-1)/page*page:
		return fmt.Errorf("is laid out in another way")
	case s.total != s.pixels+s.slots*s.slotBytes || !s.whole():
		return fmt.Errorf("is truncated")
	}
	return nil
}

// whole tells whether the segment still has its size: to touch what another has cut off would end this program.
func (s *segment) whole() bool {
	about, err := s.file.Stat()
	return err == nil && about.Size() >= int64(s.total)
}

// generation returns the generation of a slot as it is now; one word, which is never torn.
func (s *segment) generation(slot uint64) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&s.data[s.table+slot*tableEntry])))
}

var fence uint32

// copy returns the first bytes of a slot, if the slot had this generation from beginning to end.
func (s *segment) copy(slot uint64, generation uint64, bytes uint64) ([]byte, error) {
	if slot >= s.slots || bytes == 0 || bytes > s.slotBytes {
		return nil, fmt.Errorf("%d bytes do not fit slot %d", bytes, slot)
	}
	if !s.whole() {
		return nil, fmt.Errorf("the segment was truncated")
	}
	if s.generation(slot) != generation {
		return nil, fmt.Errorf("overwritten before it was copied")
	}
	taken := make([]byte, bytes)
	copy(taken, s.data[s.pixels+slot*s.slotBytes:])
	atomic.AddUint32(&fence, 1) // the copy is complete before the generation is read again
	if s.generation(slot) != generation {
		return nil, fmt.Errorf("overwritten while it was copied")
	}
	return taken, nil
}

func (s *segment) close() {
	syscall.Munmap(s.data)
	s.file.Close()
}
