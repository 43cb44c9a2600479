package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
)

// Without waiting for who writes into a pipe, and without following links.
const carefully = syscall.O_NONBLOCK | syscall.O_NOFOLLOW | syscall.O_CLOEXEC

const maxEntryBytes = 65536

var (
	isToken = regexp.MustCompile(`\A[a-z2-7]{8}\z`)
	isKind  = regexp.MustCompile(`\A[a-z][a-z0-9_]{0,31}\z`)
)

// entry is what a publisher or a receiver says of itself in TOKEN.json.
type entry struct {
	Token    string   `json:"token"`
	Role     string   `json:"role"`
	Kind     string   `json:"kind"`
	Title    string   `json:"title"`
	Host     string   `json:"host"`
	Pid      uint32   `json:"pid"`
	State    string   `json:"state"`
	Endpoint string   `json:"endpoint"`
	Key      string   `json:"key"`
	Segments []string `json:"segments"`
	Protocol uint32   `json:"protocol"`
}

// runDirectory is the folder in which publishers and receivers of one user find each other.
type runDirectory string

func findRunDirectory() (runDirectory, error) {
	path := os.Getenv("SCOPECAST_RUNTIME_DIR")
	if path == "" {
		base := os.Getenv("XDG_RUNTIME_DIR")
		if base == "" {
			return "", fmt.Errorf("neither SCOPECAST_RUNTIME_DIR nor XDG_RUNTIME_DIR is set")
		}
		path = filepath.Join(base, "scopecast")
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	// Who can write here could send us frames: nobody but this user may.
	about, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !about.IsDir() || about.Mode().Perm() != 0o700 || about.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		return "", fmt.Errorf("%s is no directory that is yours alone", path)
	}
	return runDirectory(path), nil
}

func (d runDirectory) file(token, suffix string) string {
	return filepath.Join(string(d), token+"."+suffix)
}

// publishers returns the entries of the living publishers of a kind that can be reached.
func (d runDirectory) publishers(kind string) []entry {
	names, _ := filepath.Glob(d.file("????????", "json"))
	var found []entry
	for _, name := range names {
		each, err := readEntry(name)
		if err == nil && each.Role == "publisher" && each.Kind == kind && each.State == "ready" && d.alive(each.Token) {
			found = append(found, each)
		}
	}
	return found
}

func readEntry(path string) (entry, error) {
	var read entry
	file, err := openRegular(path)
	if err != nil {
		return read, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxEntryBytes+1))
	if err != nil {
		return read, err
	}
	if len(data) > maxEntryBytes {
		return read, fmt.Errorf("%s is too large", path)
	}
	if err := json.Unmarshal(data, &read); err != nil {
		return read, err
	}
	if !isToken.MatchString(read.Token) || read.Token+".json" != filepath.Base(path) {
		return read, fmt.Errorf("%s is another's", path)
	}
	return read, nil
}

func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|carefully, 0)
	if err != nil {
		return nil, err
	}
	if about, err := file.Stat(); err != nil || !about.Mode().IsRegular() {
		file.Close()
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return file, nil
}

// alive tells whether a member's lock is held: the system frees it when the process ends, however that was.
func (d runDirectory) alive(token string) bool {
	file, err := openRegular(d.file(token, "lock"))
	if err != nil {
		return !os.IsNotExist(err) // nothing else speaks for its death
	}
	defer file.Close()
	if syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
		return true
	}
	syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	return false
}

// member is this receiver while it is in the run directory.
type member struct {
	entry
	directory runDirectory
	lock      *os.File
}

// join takes a lock and writes an entry, by which publishers find us.
func (d runDirectory) join(kind, title string) (*member, error) {
	token := make([]byte, 8)
	rand.Read(token)
	for i := range token {
		token[i] = "abcdefghijklmnopqrstuvwxyz234567"[token[i]%32]
	}
	host := "Go"
	m := &member{directory: d, entry: entry{Token: string(token), Role: "receiver", Kind: kind, Title: title, Host: host,
		Pid: uint32(os.Getpid()), State: "ready", Segments: []string{}, Protocol: protocol}}
	var err error
	if m.lock, err = os.OpenFile(d.file(m.Token, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600); err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(m.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, err
	}
	data, _ := json.Marshal(m.entry)
	if err = os.WriteFile(d.file(m.Token, "new"), data, 0o600); err != nil {
		return nil, err
	}
	return m, os.Rename(d.file(m.Token, "new"), d.file(m.Token, "json"))
}

func (m *member) leave() {
	os.Remove(m.directory.file(m.Token, "json"))
	os.Remove(m.directory.file(m.Token, "lock"))
	m.lock.Close()
}

// printable escapes what would act on a terminal instead of being seen.
func printable(text string) string {
	quoted := strconv.QuoteToGraphic(text)
	return quoted[1 : len(quoted)-1]
}
