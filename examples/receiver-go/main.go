// A receiver for scopecast, written from docs/reference/protocol.md alone: attaches to every publisher of a kind, prints a
// line for each frame that comes, and saves it as a PGM file if wanted. For Linux.
//
//	go run . -kind napari -pgm /tmp/frames
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	protocol = 1
	scan     = 200 * time.Millisecond
)

type receiver struct {
	member   *member
	pgm      string
	stopping chan struct{}
}

func main() {
	log.SetFlags(0)
	kind := flag.String("kind", "headless", "the kind of viewer whose frames to receive: napari, fiji, headless, …")
	title := flag.String("title", "receiver-go", "what to call this receiver")
	pgm := flag.String("pgm", "", "a folder to save grey frames in, as PGM")
	flag.Parse()
	if !isKind.MatchString(*kind) {
		log.Fatalf("%q is no kind of viewer", *kind)
	}
	directory, err := findRunDirectory()
	if err != nil {
		log.Fatal(err)
	}
	member, err := directory.join(*kind, *title)
	if err != nil {
		log.Fatal(err)
	}
	defer member.leave()
	r := &receiver{member: member, pgm: *pgm, stopping: make(chan struct{})}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		close(r.stopping)
	}()
	r.run()
}

// run attaches to the publishers that come, until it is told to stop.
func (r *receiver) run() {
	var attached sync.WaitGroup
	var mutex sync.Mutex
	known := map[string]bool{} // attached to, or ended
	look := time.NewTicker(scan)
	defer look.Stop()
	for {
		for _, each := range r.member.directory.publishers(r.member.Kind) {
			mutex.Lock()
			fresh := !known[each.Token]
			known[each.Token] = true
			mutex.Unlock()
			if !fresh {
				continue
			}
			attached.Add(1)
			go func() {
				defer attached.Done()
				ended, err := r.attach(each)
				if err != nil {
					log.Printf("%s: %v", printable(each.Title), err)
				}
				if !ended { // the connection broke: it is made again
					mutex.Lock()
					delete(known, each.Token)
					mutex.Unlock()
				}
			}()
		}
		select {
		case <-look.C:
		case <-r.stopping:
			attached.Wait()
			return
		}
	}
}
