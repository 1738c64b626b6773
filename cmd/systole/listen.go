package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"systole/control/client"
)

type listenCmd struct {
	Type  []string      `help:"Only messages of these types, and nothing else unless --kind says so; takeover's own (resource, ...) can be heard if named." placeholder:"TYPE"`
	Kind  []string      `help:"Only these kinds of events: message, node, link, view." enum:"message,node,link,view" placeholder:"KIND"`
	JSON  bool          `help:"Print each event as the documented JSON object, one a line."`
	Count int           `help:"End after so many events; the state at the beginning is not counted." placeholder:"N"`
	For   time.Duration `help:"End after this time." placeholder:"DURATION"`
	socketFlag
}

func (c listenCmd) Run(ctx context.Context) error {
	if c.Count < 0 || c.For < 0 {
		return errors.New("--count and --for cannot be negative")
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if c.For > 0 {
		limited, cancel = context.WithTimeout(ctx, c.For)
	}
	defer cancel()
	err := c.listen(limited, os.Stdout)
	// An end that was asked for is a good one, Ctrl-C too.
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (c listenCmd) wanted() client.Wanted {
	w := client.Wanted{Types: c.Type}
	for _, k := range c.Kind {
		w.Kinds = append(w.Kinds, client.Kind(k))
	}
	if len(c.Type) > 0 && len(c.Kind) == 0 {
		w.Kinds = []client.Kind{client.KindMessage}
	}
	return w
}

func (c listenCmd) listen(ctx context.Context, out io.Writer) error {
	w := bufio.NewWriter(out)
	enc := json.NewEncoder(w)
	p := c.programs()
	defer p.Close()
	count := 0
	for e, err := range p.Listen(ctx, c.wanted()) {
		if err != nil {
			return err
		}
		if c.JSON {
			err = enc.Encode(e)
		} else if e.Kind != client.KindStart {
			_, err = fmt.Fprintln(w, eventLine(e))
		}
		// Each event is seen at once; the one that reads may be a pipe.
		if err = errors.Join(err, w.Flush()); err != nil {
			return err
		}
		if e.Kind == client.KindStart || e.Snapshot {
			continue
		}
		if count++; count == c.Count {
			return nil
		}
	}
	return nil
}

// eventLine is an event on one line, for people.
func eventLine(e client.Event) string {
	var b strings.Builder
	b.WriteString(e.At.Local().Format("15:04:05.000"))
	word := func(s string) {
		b.WriteByte(' ')
		b.WriteString(s)
	}
	word(string(e.Kind))
	word(printable(e.Node))
	switch e.Kind {
	case client.KindMessage:
		word(strconv.FormatUint(e.Seq, 10))
		word(printable(e.Type))
		for _, name := range slices.Sorted(maps.Keys(e.Fields)) {
			word(printable(name) + "=" + printable(e.Fields[name]))
		}
		for _, name := range slices.Sorted(maps.Keys(e.Binary)) {
			word(fmt.Sprintf("%s=0x%x", printable(name), e.Binary[name]))
		}
	case client.KindLink:
		word(printableText(e.Medium) + ": " + e.State)
	case client.KindNode:
		word(e.Status)
	case client.KindView:
		word(fmt.Sprintf("%d of %s: %s; quorum=%t settled=%t", e.View.Number, printable(e.View.Coordinator),
			printableText(strings.Join(e.View.Members, " ")), e.View.Quorum, e.View.Settled))
	}
	if e.Why != "" {
		word("(" + printableText(e.Why) + ")")
	}
	return b.String()
}

// printable is s, quoted if a reader or a terminal could take it for something
// else.
func printable(s string) string {
	if s == "" || strings.ContainsAny(s, " \"") || printableText(s) != s {
		return strconv.Quote(s)
	}
	return s
}

// printableText is a sentence; if something in it is not printable it is
// quoted.
func printableText(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
