package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is what one run found, and its JSON form.
type report struct {
	Time   time.Time `json:"time"`
	Kernel string    `json:"kernel"`
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`

	Packets []packetResult `json:"packets"`
	Wire    []wireResult   `json:"wire"`
	Applies []applyResult  `json:"applies"`
	Syncs   []syncResult   `json:"syncs"`
}

// series are samples of one quantity.
type series []float64

func (s series) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
func (s series) least() float64 { return slices.Min(s) }
func (s series) most() float64  { return slices.Max(s) }

// MarshalJSON gives the summary beside the samples.
func (s series) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Median  float64   `json:"median"`
		Least   float64   `json:"least"`
		Most    float64   `json:"most"`
		Samples []float64 `json:"samples"`
	}{s.median(), s.least(), s.most(), s})
}

// packetResult is the cost of one kind of packet, in ns.
type packetResult struct {
	Name    string  `json:"name"`
	Verdict string  `json:"verdict"` // "forwarded", "passed"
	Net     series  `json:"net_ns"`  // less the floor that returns
	Swap    series  `json:"swap_ns"` // the same of the floor that swaps MAC addresses
	Floor   series  `json:"floor_ns"`
	Goal    float64 `json:"goal_ns,omitempty"`
}

// wireResult is a rate over veth devices.
type wireResult struct {
	Name    string `json:"name"`
	CPUs    int    `json:"cpus"`
	Rate    series `json:"packets_per_second"`
	Sent    uint64 `json:"sent"`
	Lost    int    `json:"lost"`    // by the director
	Overrun uint64 `json:"overrun"` // by a ring of the veth devices
}

// syncResult is how fast flows get to another director.
type syncResult struct {
	Name    string `json:"name"`
	Flows   int    `json:"flows"`
	Seconds series `json:"seconds"`           // until it has them all
	PerFlow series `json:"bytes_per_flow"`    // of UDP payload
	Share   series `json:"percent,omitempty"` // of new connections that are there after 100 ms
}

// rate is in flows a second.
func (s syncResult) rate() float64 { return float64(s.Flows) / s.Seconds.median() }

// applyResult is the cost of a configuration, in microseconds.
type applyResult struct {
	Servers  int    `json:"servers"`
	Services int    `json:"services"`
	Visible  series `json:"visible_us"` // until a packet is forwarded by it
	Call     series `json:"call_us"`    // until Apply returns
}

func newReport() *report {
	r := &report{Time: time.Now().UTC().Truncate(time.Second), CPUs: runtime.NumCPU(), CPU: cpuName()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		r.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return r
}

// cpuName is the processor's model, as far as the kernel tells.
func cpuName() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// text is for people.
func (r *report) text(out io.Writer) error {
	fmt.Fprintf(out, "%s, %d CPUs, Linux %s, %s\n", r.CPU, r.CPUs, r.Kernel, r.Time.Format(time.DateOnly))
	table := func(title string, head string, rows int, row func(i int) string) error {
		if rows == 0 {
			return nil
		}
		fmt.Fprintf(out, "\n%s\n", title)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, head)
		for i := range rows {
			fmt.Fprintln(w, row(i))
		}
		return w.Flush()
	}
	three := func(s series, format string) string {
		return fmt.Sprintf(strings.TrimSuffix(strings.Repeat(format+"\t", 3), "\t"), s.median(), s.least(), s.most())
	}
	if err := table("A packet, ns net of the loop (median, best, worst of the samples; swap and loop: medians of the floors)",
		"packet\tverdict\tmedian\tbest\tworst\tgoal\tswap\tloop\t", len(r.Packets), func(i int) string {
			p := r.Packets[i]
			goal := ""
			if p.Goal != 0 {
				goal = fmt.Sprintf("%.0f", p.Goal)
			}
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%.1f\t%.1f\t", p.Name, p.Verdict, three(p.Net, "%.1f"), goal, p.Swap.median(), p.Floor.median())
		}); err != nil {
		return err
	}
	if err := table("Over a pair of veth devices, million packets a second, through generator, director and counter",
		"program\tCPUs\tmedian\tworst\tbest\tsent\tlost\toverrun\t", len(r.Wire), func(i int) string {
			w := r.Wire[i]
			millions := make(series, len(w.Rate))
			for i, v := range w.Rate {
				millions[i] = v / 1e6
			}
			return fmt.Sprintf("%s\t%d\t%s\t%d\t%d\t%d\t", w.Name, w.CPUs, three(millions, "%.2f"), w.Sent, w.Lost, w.Overrun)
		}); err != nil {
		return err
	}
	if err := table("A configuration, microseconds (visible: until a packet is forwarded by it; call: until Apply returns)",
		"real servers\tservices\tvisible\tbest\tworst\tcall\tbest\tworst\t", len(r.Applies), func(i int) string {
			a := r.Applies[i]
			return fmt.Sprintf("%d\t%d\t%s\t%s\t", a.Servers, a.Services, three(a.Visible, "%.0f"), three(a.Call, "%.0f"))
		}); err != nil {
		return err
	}
	return table("Flows to another director, seconds until it has them all",
		"what\tflows\tmedian\tbest\tworst\tflows/s\tbytes/flow\tafter 100 ms\t", len(r.Syncs), func(i int) string {
			s := r.Syncs[i]
			rate, share := fmt.Sprintf("%.0f", s.rate()), ""
			if len(s.Share) > 0 { // most of them before we began to count
				rate, share = "", fmt.Sprintf("%.2f %%", s.Share.least())
			}
			return fmt.Sprintf("%s\t%d\t%s\t%s\t%.1f\t%s\t", s.Name, s.Flows, three(s.Seconds, "%.3f"), rate, s.PerFlow.median(), share)
		})
}

// json is for machines.
func (r *report) json(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// benchmark are the samples as `go test -bench -count` prints them.
func (r *report) benchmark(out io.Writer) error {
	fmt.Fprintf(out, "goos: linux\ngoarch: %s\npkg: systole/test/bench\ncpu: %s\n", runtime.GOARCH, r.CPU)
	name := strings.NewReplacer(" ", "_", ",", "").Replace
	line := func(what string, value float64, unit string) error {
		_, err := fmt.Fprintf(out, "Benchmark%s \t1\t%.4g %s\n", name(what), value, unit)
		return err
	}
	for _, p := range r.Packets {
		for _, v := range p.Net {
			if err := line("Packet/"+p.Name, v, "net-ns/packet"); err != nil {
				return err
			}
		}
	}
	for _, w := range r.Wire {
		for _, v := range w.Rate {
			if err := line(fmt.Sprintf("Wire/%s/cpus=%d", w.Name, w.CPUs), v, "packets/s"); err != nil {
				return err
			}
		}
	}
	for _, s := range r.Syncs {
		for i := range s.Seconds {
			if _, err := fmt.Fprintf(out, "Benchmark%s \t1\t%.4g s\t%.4g B/flow\n", name("Sync/"+strings.ReplaceAll(s.Name, "/s", "ps")), s.Seconds[i], s.PerFlow[i]); err != nil {
				return err
			}
		}
	}
	for _, a := range r.Applies {
		more := ""
		if a.Services == a.Servers && a.Services > 1 {
			more = fmt.Sprintf("/services=%d", a.Services)
		}
		for i := range a.Call {
			if _, err := fmt.Fprintf(out, "BenchmarkApply/servers=%d%s \t1\t%.4g visible-us\t%.4g call-us\n", a.Servers, more, a.Visible[i], a.Call[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
