package main

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// logWriter writes lines to a place that may be slow, such as a terminal that
// was stopped or a full disk, and never lets the writer wait: a director whose
// log hangs must go on beating. Lines that find the queue full are left out and
// counted. log/slog and its libraries write where they stand, so this is ours.
type logWriter struct {
	to     io.Writer
	queue  chan []byte
	closed chan struct{} // by close: no more lines
	done   chan struct{} // all lines are written

	mu      sync.Mutex
	omitted int
}

const (
	logQueue = 4096 // lines
	// logFlush is how long the end of the process waits for its last lines.
	logFlush = time.Second
)

func newLogWriter(to io.Writer) *logWriter {
	w := &logWriter{to: to, queue: make(chan []byte, logQueue), closed: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes one line. It never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	select {
	case w.queue <- bytes.Clone(line):
	default:
		w.mu.Lock()
		w.omitted++
		w.mu.Unlock()
	}
	return len(line), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	for {
		select {
		case line := <-w.queue:
			w.write(line)
			continue
		default:
		}
		select {
		case line := <-w.queue:
			w.write(line)
		case <-w.closed:
			if len(w.queue) == 0 {
				return
			}
		}
	}
}

// write writes a line, and how many were left out before it. There is nobody to
// tell of an error.
func (w *logWriter) write(line []byte) {
	w.mu.Lock()
	omitted := w.omitted
	w.omitted = 0
	w.mu.Unlock()
	_, _ = w.to.Write(line)
	if omitted > 0 {
		_, _ = fmt.Fprintf(w.to, "%d lines were left out here: the log was not written in time\n", omitted)
	}
}

// Close writes what waits, if that does not take too long.
func (w *logWriter) Close() error {
	close(w.closed)
	select {
	case <-w.done:
	case <-time.After(logFlush):
	}
	return nil
}
