package main

import (
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRead: the lines of go test -fuzz, as Go 1.26 writes them.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want result
	}{
		"quiet": {
			text: "fuzz: elapsed: 0s, gathering baseline coverage: 4/4 completed, now fuzzing with 2 workers\n" +
				"fuzz: elapsed: 3s, execs: 5065 (1688/sec), new interesting: 1 (total: 5)\n" +
				"fuzz: elapsed: 6s, execs: 12019 (2317/sec), new interesting: 2 (total: 6)\nPASS\nok  \tsystole/hb\t7.044s\n",
			want: result{execs: 12019, interesting: 2, output: "  PASS\n  ok  \tsystole/hb\t7.044s\n"},
		},
		"finding": {
			text: "fuzz: elapsed: 3s, execs: 77 (25/sec), new interesting: 0 (total: 6)\n--- FAIL: FuzzX (0.02s)\n    --- FAIL: FuzzX (0.00s)\n" +
				"        x_test.go:1: no\n    \n    Failing input written to testdata/fuzz/FuzzX/582528ddfad69eb5\n    To re-run:\nFAIL\n",
			want: result{execs: 77, finding: "testdata/fuzz/FuzzX/582528ddfad69eb5", output: "  --- FAIL: FuzzX (0.02s)\n      --- FAIL: FuzzX (0.00s)\n" +
				"          x_test.go:1: no\n      \n      Failing input written to testdata/fuzz/FuzzX/582528ddfad69eb5\n      To re-run:\n  FAIL\n"},
		},
		"a test that fails": {
			text: "=== RUN   TestX\n--- FAIL: TestX (0.02s)\n",
			want: result{finding: "--- FAIL: TestX (0.02s)", output: "  --- FAIL: TestX (0.02s)\n"},
		},
		"endless": {
			text: strings.Repeat("x", 2<<20) + "\n",
			want: result{},
		},
	} {
		var got result
		got.read(strings.NewReader(c.text), io.Discard)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}

// TestFindFuzz: no target of the tree is overlooked.
func TestFindFuzz(t *testing.T) {
	all, err := findFuzz("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []target{
		{pkg: "./hb/wire", name: "FuzzDecode"}, {pkg: "./hb/wire", name: "FuzzParseAuthkeys"}, {pkg: "./hb", name: "FuzzReceive"},
		{pkg: "./hb/media/serial", name: "FuzzFraming"}, {pkg: "./control/takeover", name: "FuzzMessage"},
		{pkg: "./control/config", name: "FuzzParse"}, {pkg: "./control/api", name: "FuzzRequest"},
	} {
		if !slices.ContainsFunc(all, func(t target) bool { return t.pkg == want.pkg && t.name == want.name && t.fuzz }) {
			t.Errorf("%s %s was not found", want.pkg, want.name)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	table(&b, []result{
		{target: target{pkg: "./hb", name: "FuzzReceive", fuzz: true}, took: 10 * time.Second, execs: 1000, interesting: 3},
		{target: target{pkg: "./bpf", name: "FuzzPacket", fuzz: true}, took: 2 * time.Second, execs: 10, finding: "testdata/fuzz/FuzzPacket/1", output: "  FAIL\n"},
		{target: target{pkg: "./hb", name: "TestX"}, took: time.Minute, output: "  a table\n", stopped: true},
	}, 4)
	const want = `
PACKAGE  TARGET       TIME  EXECUTIONS  PER SECOND  NEW INPUTS  FOUND
./hb     FuzzReceive  10s   1000        100         3           nothing
./bpf    FuzzPacket   2s    10          5           0           testdata/fuzz/FuzzPacket/1
./hb     TestX        1m0s                                      nothing, stopped

3 of 4 targets, 1010 executions, 1 findings

./bpf FuzzPacket:
  FAIL

./hb TestX:
  a table
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
