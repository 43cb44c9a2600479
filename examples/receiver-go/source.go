package main

import (
	"context"
	"fmt"
	"log"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-zeromq/zmq4"
)

const (
	maxMessageBytes = 65536
	silence         = 3 * time.Second
)

// source is a publisher that we are attached to. Only its own goroutine uses it.
type source struct {
	entry    entry
	receiver *receiver
	socket   zmq4.Socket
	segment  *segment
	greeting bool // said HELLO, and not yet welcome
	streams  map[uint32]stream
	axes     map[uint32]map[int][]string // of a stream, by how many it had: axes only ever join
}

// attach connects to a publisher and serves it until one of us ends, or the connection breaks.
// It returns whether the publisher has ended.
func (r *receiver) attach(to entry) (ended bool, err error) {
	if !strings.HasPrefix(to.Endpoint, "ipc://") {
		return true, fmt.Errorf("%s needs CURVE, which this program's ZeroMQ library does not have", to.Endpoint)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := &source{entry: to, receiver: r, streams: map[uint32]stream{}, axes: map[uint32]map[int][]string{}}
	s.socket = zmq4.NewDealer(ctx, zmq4.WithAutomaticReconnect(false), zmq4.WithDialerMaxRetries(0))
	defer s.socket.Close()
	if err := s.socket.Dial(to.Endpoint); err != nil {
		return false, err
	}
	defer s.detach()
	came := make(chan []byte)
	go func() {
		for {
			got, err := s.socket.Recv()
			if err != nil {
				close(came)
				return
			}
			if len(got.Frames) == 1 && len(got.Frames[0]) <= maxMessageBytes {
				select {
				case came <- got.Frames[0]:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	if err := s.greet(); err != nil {
		return false, err
	}
	return s.serve(came)
}

func (s *source) serve(came <-chan []byte) (ended bool, err error) {
	look := time.NewTicker(scan)
	defer look.Stop()
	heard, dead, broken := time.Now(), false, false
	for {
		select {
		case data, open := <-came:
			if !open { // its lock will tell why
				broken, came = true, nil
				continue
			}
			heard = time.Now()
			bye, err := s.handle(data)
			if bye || err != nil {
				return bye, err
			}
		case <-look.C:
			switch alive := s.receiver.member.directory.alive(s.entry.Token); {
			case !alive && (dead || broken): // what it had sent before has been read by now
				return true, fmt.Errorf("its process died")
			case broken:
				return false, fmt.Errorf("the connection broke")
			default:
				dead = !alive
			}
			if time.Since(heard) > silence {
				heard = time.Now()
				if err := s.send("PONG", 0); err != nil { // does it still know us?
					return false, err
				}
			}
		case <-s.receiver.stopping:
			return true, s.send("BYE", "the receiver was stopped")
		}
	}
}

func (s *source) send(name string, elements ...any) error {
	return s.socket.Send(zmq4.NewMsg(message(name, elements...)))
}

func (s *source) greet() error {
	s.greeting = true
	m := s.receiver.member
	return s.send("HELLO", protocol, protocol, m.Token, m.Kind, m.Pid, m.Title)
}

// handle does what a message asks for. It returns whether it was the publisher's goodbye.
func (s *source) handle(data []byte) (bye bool, err error) {
	name, elements, count, err := split(data)
	if err != nil {
		return false, nil // what can't be decoded is ignored
	}
	switch name {
	case "WELCOME":
		var w welcome
		if w.read(elements, count) == nil && w.token == s.entry.Token {
			s.greeting = false
			s.use(w)
		}
	case "REJECT":
		var r reject
		if r.read(elements, count) != nil {
			return false, nil
		}
		if !r.again {
			return true, fmt.Errorf("refused: %s", printable(r.reason))
		}
		if !s.greeting { // we had been given up for dead; each message of ours is answered so, one HELLO is enough
			return false, s.greet()
		}
	case "STREAM":
		var about stream
		if about.read(elements, count) == nil {
			s.streams[about.id] = about
			if s.axes[about.id] == nil {
				s.axes[about.id] = map[int][]string{}
			}
			s.axes[about.id][len(about.axes)] = about.axes
		}
	case "FRAME":
		var f frame
		if f.read(elements, count) != nil {
			return false, nil
		}
		fate := "delivered"
		if err := s.take(f); err != nil {
			log.Printf("frame %d is skipped: %v", f.sequence, err)
			fate = "skipped"
		}
		return false, s.send("ACK", f.epoch, f.slot, f.generation, fate)
	case "PING":
		var number uint64
		if read(elements, count, 1, &number) == nil {
			return false, s.send("PONG", number)
		}
	case "CAPTURE":
		var number uint64
		if read(elements, count, 1, &number) == nil {
			return false, s.send("CAPTURED", number, "this receiver has no window")
		}
	case "BYE":
		log.Printf("%s has ended", printable(s.entry.Title))
		return true, s.send("BYE")
	}
	return false, nil
}

// use maps the segment that a WELCOME names, in the place of the one before.
func (s *source) use(w welcome) {
	if s.segment != nil && s.segment.epoch == w.epoch {
		return
	}
	s.detach()
	opened, err := openSegment(w.segment, w.token, w.epoch)
	if err != nil {
		log.Print(err)
		return
	}
	s.segment = opened
	log.Printf("attached to %s: %d slots of %d bytes", printable(s.entry.Title), opened.slots, opened.slotBytes)
}

func (s *source) detach() {
	if s.segment != nil {
		s.segment.close()
		s.segment = nil
	}
}

// take copies a frame and prints what it is.
func (s *source) take(f frame) error {
	about, known := s.streams[f.stream]
	if !known || s.segment == nil || f.epoch != s.segment.epoch {
		return fmt.Errorf("its stream or its segment is not known")
	}
	if f.kind != "image" && f.kind != "labels" {
		return fmt.Errorf("this program shows no %s", printable(f.kind))
	}
	bytes, err := sizeOf(f.dtype, f.shape)
	if err != nil {
		return err
	}
	data, err := s.segment.copy(uint64(f.slot), f.generation, bytes)
	if err != nil {
		return err
	}
	taken := image{f.shape, f.dtype, data}
	line := []string{printable(about.title), f.kind}
	line = append(line, s.place(about, f.index)...)
	line = append(line, fmt.Sprintf("shape=%s dtype=%s", strings.ReplaceAll(fmt.Sprint(f.shape), " ", ","), f.dtype))
	if least, most, ok := taken.extremes(); ok {
		line = append(line, fmt.Sprintf("min=%.12g max=%.12g", least, most))
	}
	if folder := s.receiver.pgm; folder != "" {
		path := filepath.Join(folder, fmt.Sprintf("%s_%06d.pgm", s.entry.Token, f.sequence))
		if err := taken.writePGM(path); err != nil {
			log.Print(err)
		} else {
			line = append(line, path)
		}
	}
	fmt.Println(strings.Join(line, " "))
	return nil
}

// place names where a frame belongs: t=3 c=DAPI.
func (s *source) place(about stream, index []int) []string {
	var parts []string
	for i, axis := range s.axes[about.id][len(index)] { // which may be fewer than there are by now
		at := fmt.Sprint(index[i])
		if labels := about.labels[axis]; index[i] >= 0 && index[i] < len(labels) {
			at = printable(labels[index[i]])
		}
		parts = append(parts, printable(axis)+"="+at)
	}
	return parts
}
