package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is one fuzz target or test.
type target struct {
	pkg, name string
	fuzz      bool
	args      []string // further ones for the test
}

// result is what came of it.
type result struct {
	target
	took               time.Duration
	execs, interesting uint64
	finding            string // what was found, in a few words; "" if nothing
	output             string // of the command, where it is of use
	stopped            bool
}

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// findFuzz returns the fuzz targets in the test files below root, in order.
func findFuzz(root string) (all []target, err error) {
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata"):
			return filepath.SkipDir
		case e.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzFunc.FindAllSubmatch(text, -1) {
			dir, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			all = append(all, target{pkg: "./" + filepath.ToSlash(dir), name: string(m[1]), fuzz: true})
		}
		return nil
	})
	slices.SortFunc(all, func(a, b target) int { return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.name, b.name)) })
	return all, err
}

// run runs the target; progress goes to out.
func (t target) run(ctx context.Context, out io.Writer, fuzz time.Duration) result {
	args := []string{"test", "-count=1", "-v", "-timeout=0", "-run", "^" + t.name + "$", t.pkg}
	if t.fuzz {
		args = []string{"test", "-run", "^$", "-fuzz", "^" + t.name + "$", "-fuzztime", fuzz.String(), t.pkg}
	}
	args = append(args, t.args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "SYSTOLE_SOAK=1")
	// In a group of its own: an interrupt ends it once, in order, through us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second

	r := result{target: t}
	began := time.Now()
	pipe, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	ended := make(chan error, 1)
	go func() {
		err := cmd.Run()
		in.Close()
		ended <- err
	}()
	r.read(pipe, out)
	err := <-ended
	r.took = time.Since(began)
	if ctx.Err() != nil {
		r.stopped = true
	}
	// A test that was stopped has failed for no other reason, unless it says so.
	switch {
	case r.finding == "" && err != nil && !r.stopped:
		r.finding = fmt.Sprintf("failed: %v", err)
	case t.fuzz && r.finding == "":
		r.output = "" // nothing that the table does not say
	}
	return r
}

// A line of go test -fuzz, and the one that names what it has found.
var (
	progress = regexp.MustCompile(`^fuzz: elapsed: .*, execs: (\d+) .*, new interesting: (\d+)`)
	failing  = regexp.MustCompile(`^\s*Failing input written to (\S+)`)
)

// keepOutput bounds what is kept of a command that fails without end.
const keepOutput = 64 << 10

// read takes in the output of go test. Progress is shown twice a minute.
func (r *result) read(from io.Reader, out io.Writer) {
	s := bufio.NewScanner(from)
	s.Buffer(nil, 1<<20)
	shown := time.Now()
	for s.Scan() {
		line := s.Text()
		if m := progress.FindStringSubmatch(line); m != nil {
			r.execs, _ = strconv.ParseUint(m[1], 10, 64)
			r.interesting, _ = strconv.ParseUint(m[2], 10, 64)
			if time.Since(shown) >= 30*time.Second {
				shown = time.Now()
				fmt.Fprintln(out, " ", line)
			}
			continue
		}
		switch m := failing.FindStringSubmatch(line); {
		case m != nil:
			r.finding = m[1]
		case strings.HasPrefix(strings.TrimSpace(line), "--- FAIL: ") && r.finding == "":
			r.finding = strings.TrimSpace(line)
		}
		if len(r.output) < keepOutput && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "fuzz: ") {
			r.output += "  " + line + "\n"
		}
	}
	_, _ = io.Copy(io.Discard, from) // after a line that is too long
}
