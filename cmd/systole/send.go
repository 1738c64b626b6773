package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"systole/control/client"
)

type sendCmd struct {
	Type   string            `arg:"" help:"Type of the message, such as app.deploy; the heartbeat's own are refused."`
	Fields []string          `arg:"" optional:"" name:"name=value" help:"Text fields of the message."`
	Binary map[string]string `help:"A field with the content of a file." placeholder:"NAME=FILE" mapsep:"none"`
	Dest   string            `help:"Only for this node; default: all." placeholder:"NODE"`
	Stdin  bool              `help:"Send a message for each line of standard input, with the line in field text (an empty line: without it)."`
	Wait   time.Duration     `help:"How long a message may wait while the cluster has not acknowledged earlier ones." default:"10s"`
	socketFlag
}

func (c sendCmd) Run(ctx context.Context) error {
	m, err := c.message()
	if err != nil {
		return err
	}
	p := c.programs()
	defer p.Close()
	s := sender{client: p, wait: c.Wait, out: os.Stdout}
	if c.Stdin {
		if isTerminal(os.Stderr) {
			s.progress = os.Stderr
		}
		return s.lines(ctx, m, os.Stdin)
	}
	sent, err := s.send(ctx, m)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s: sent, message %d of %s\n", m.Type, sent.Seq, sent.Node)
	return nil
}

// textField is where --stdin puts a line.
const textField = "text"

// message is what the command line says.
func (c sendCmd) message() (client.Message, error) {
	m := client.Message{Type: c.Type, Dest: c.Dest, Fields: make(map[string]string), Binary: make(map[string][]byte)}
	for _, f := range c.Fields {
		name, value, ok := strings.Cut(f, "=")
		_, twice := m.Fields[name]
		switch {
		case !ok:
			return m, fmt.Errorf("%q: write NAME=VALUE", f)
		case twice:
			return m, fmt.Errorf("%q: field %s is there twice", f, name)
		case c.Stdin && name == textField:
			return m, fmt.Errorf("%q: with --stdin this field is for the lines", f)
		}
		m.Fields[name] = value
	}
	for name, file := range c.Binary {
		b, err := os.ReadFile(file)
		if err != nil {
			return m, fmt.Errorf("--binary %s: %w", name, err)
		}
		m.Binary[name] = b
	}
	return m, nil
}

// sender sends one message or many.
type sender struct {
	client   *client.Client
	wait     time.Duration
	out      io.Writer
	progress io.Writer // nil: no progress is shown
}

func (s *sender) send(ctx context.Context, m client.Message) (client.Sent, error) {
	limited, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	sent, err := s.client.Send(limited, m)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return sent, fmt.Errorf("no answer of the director within %v: it is not known whether the message was sent", s.wait)
	}
	return sent, err
}

// maxLine is longer than what a message holds: the director says how much that
// is.
const maxLine = 64 << 10

// lines sends a message for each line. The first that fails ends it, so that
// those after it do not arrive without it.
func (s *sender) lines(ctx context.Context, m client.Message, in io.Reader) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// A read cannot be interrupted, so it has a goroutine of its own.
	type line struct {
		text string
		err  error
	}
	lines := make(chan line)
	go func() {
		defer close(lines)
		scan := bufio.NewScanner(in)
		scan.Buffer(make([]byte, 4<<10), maxLine)
		scan.Split(scanLines)
		for scan.Scan() {
			select {
			case lines <- line{text: scan.Text()}:
			case <-ctx.Done():
				return
			}
		}
		if err := scan.Err(); err != nil {
			select {
			case lines <- line{err: err}:
			case <-ctx.Done():
			}
		}
	}()
	var first, last client.Sent
	count := 0
	told := time.Now()
	defer func() {
		switch count {
		case 0:
			fmt.Fprintf(s.out, "%s: nothing was sent\n", m.Type)
		case 1:
			fmt.Fprintf(s.out, "%s: 1 message was sent, %d of %s\n", m.Type, last.Seq, last.Node)
		default:
			fmt.Fprintf(s.out, "%s: %d messages were sent, %d to %d of %s\n", m.Type, count, first.Seq, last.Seq, last.Node)
		}
	}()
	fields := m.Fields
	for {
		var l line
		var more bool
		select {
		case l, more = <-lines:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case !more:
			return nil
		case errors.Is(l.err, bufio.ErrTooLong):
			return fmt.Errorf("line %d is longer than %d bytes", count+1, maxLine)
		case l.err != nil:
			return fmt.Errorf("line %d: %w", count+1, l.err)
		}
		m.Fields = make(map[string]string, len(fields)+1)
		maps.Copy(m.Fields, fields)
		if l.text != "" {
			m.Fields[textField] = l.text
		}
		sent, err := s.send(ctx, m)
		if err != nil {
			return fmt.Errorf("line %d: %w", count+1, err)
		}
		if count == 0 {
			first = sent
		}
		last = sent
		count++
		if s.progress != nil && time.Since(told) >= time.Second {
			told = time.Now()
			fmt.Fprintf(s.progress, "%d messages so far\n", count)
		}
	}
}

// scanLines is bufio.ScanLines for lines that end with LF alone: a CR is part
// of the line.
func scanLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
