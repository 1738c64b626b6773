package hbtest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"systole/hb"
	"systole/hb/wire"
)

// RunScript runs the commands in a file and compares the whole output with
// what the file holds. With update it writes the file anew instead.
//
// A script consists of comments (#) and empty lines, which are kept; commands,
// which begin with "> "; and output, indented by two blanks: the time in
// seconds, the node, and what it sent or learnt; of one step first the packets,
// then the events.
//
//	> seed N                        before nodes; default 1
//	> nodes a b [option=value ...]  options: keepalive deadtime warntime initdead deadping grace rexmit
//	                                (durations), media, format, auth (crc, the default, or sha256), order=yes,
//	                                ping (names), autojoin, stranger (not in the others' list)
//	> faults [loss=P] [duplicate=P] [reorder=P] [delay=MIN..MAX]
//	> start a ... | crash a ... | stop a ... | pause a ... | resume a ...
//	> kill a ...                    the daemon only: its machine goes on
//	> hosts                         machines answer echo requests and refuse packets for a killed daemon
//	> filter a ...                  a's machine does neither
//	> ends a ...                    a's data plane ends with its daemon
//	> carrier a MEDIUM lost|back    of a's own interface
//	> run DURATION
//	> submit a TYPE [field=value ...]
//	> drop a b TYPE N               lose the next N packets of that type from a to b
//	> cut a b [MEDIUM] | heal a b [MEDIUM] | heal | partition a ...
//	> again a b TYPE [spoilt|old]   b gets the last packet of that type of a once more, with a bit flipped,
//	                                or the one of before a's last start
//	> add a NAME ... | remove a NAME ...   a changes the list of nodes
//	> ping NAME answers|is silent   what the ping node does
//	> log changes|probes|all|events|deaths which packets are shown; changes leaves out beats that say nothing new and
//	                                probes with their answers, probes the former only; deaths shows no packet
//	                                and of the events only changes of nodes
//	> view a                        what a knows
func RunScript(t *testing.T, file string, update bool) {
	t.Helper()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(old)
	if !strings.HasPrefix(text, "# ") {
		t.Fatalf("%s: does not open with a comment that says what it proves", file)
	}
	got, err := script(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != text {
		t.Errorf("%s: not what the file says (run with -update to accept, then read the difference):\n%s", file, firstDifference(text, got))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d:\n  want %q\n  got  %q", i+1, a, b)
		}
	}
	return "(no difference)"
}

// script returns the text with its output made anew.
func script(text string) (string, error) {
	r := runner{seed: 1, keys: Keys(), log: "changes", shown: map[string]string{}, newest: map[string]uint64{}, last: map[string][]byte{}}
	var out strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		command, ok := strings.CutPrefix(line, "> ")
		if !ok {
			if line != "" && line[0] != '#' {
				return "", fmt.Errorf("line %d: neither comment, command nor output: %q", i+1, line)
			}
			continue
		}
		r.out.Reset()
		if err := r.do(strings.Fields(command)); err != nil {
			return "", fmt.Errorf("line %d: %s: %w", i+1, command, err)
		}
		out.WriteString(r.out.String())
	}
	return out.String(), nil
}

type runner struct {
	seed   uint64
	net    *Network
	keys   wire.Keys
	log    string
	out    strings.Builder
	shown  map[string]string // per node: the last status that was shown
	newest map[string]uint64 // per node: highest number sent
	last   map[string][]byte // per node and type: the last packet; "old " before it: of the start before
	drops  []*drop
}

type drop struct {
	from, to, typ string
	n             int
}

func (r *runner) printf(format string, args ...any) {
	fmt.Fprintf(&r.out, "  %8.3f ", r.net.Since().Seconds())
	fmt.Fprintf(&r.out, format+"\n", args...)
}

func (r *runner) do(args []string) (err error) {
	if len(args) == 0 {
		return fmt.Errorf("no command")
	}
	// A bad node name or missing argument panics deep inside; a script error
	// is all it is.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	name, args := args[0], args[1:]
	if r.net == nil && name != "seed" && name != "nodes" {
		return fmt.Errorf("first say which nodes there are")
	}
	switch name {
	case "seed":
		r.seed, err = strconv.ParseUint(args[0], 10, 64)
	case "nodes":
		err = r.nodes(args)
	case "faults":
		err = r.faults(args)
	case "start":
		for _, a := range args {
			delete(r.shown, a)
			delete(r.newest, a)
			for key, data := range maps.Clone(r.last) {
				if strings.HasPrefix(key, a+" ") {
					r.last["old "+key] = data
				}
			}
			if err := r.net.Start(a); err != nil {
				return err
			}
		}
	case "crash":
		each(args, r.net.Crash)
	case "stop":
		each(args, func(a string) { r.net.Core(a).Stop(r.net.Now()) })
	case "kill":
		each(args, r.net.Kill)
	case "hosts":
		r.net.Hosts = true
	case "filter":
		each(args, r.net.Filter)
	case "ends":
		each(args, func(n string) { r.net.SetEnds(n, true) })
	case "carrier":
		switch args[2] {
		case "lost", "back":
			r.net.Carrier(args[0], args[1], args[2] == "back")
		default:
			err = fmt.Errorf("lost or back")
		}
	case "pause":
		each(args, r.net.Pause)
	case "resume":
		each(args, r.net.Resume)
	case "run":
		var d time.Duration
		if d, err = time.ParseDuration(args[0]); err == nil {
			r.net.Run(d)
		}
	case "submit":
		m := wire.New(args[1])
		for _, f := range args[2:] {
			k, v, _ := strings.Cut(f, "=")
			m.Set(k, v)
		}
		r.refused(args[0], r.net.Submit(args[0], m))
	case "drop":
		d := &drop{from: args[0], to: args[1], typ: args[2]}
		d.n, err = strconv.Atoi(args[3])
		r.drops = append(r.drops, d)
	case "cut":
		r.net.Cut(args[0], args[1], strings.Join(args[2:], ""))
	case "heal":
		if len(args) == 0 {
			r.net.HealAll()
		} else {
			r.net.Heal(args[0], args[1], strings.Join(args[2:], ""))
		}
	case "partition":
		r.net.Partition(args...)
	case "again":
		key, how := args[0]+" "+args[2], strings.Join(args[3:], " ")
		if how == "old" {
			key = "old " + key
		}
		data := slices.Clone(r.last[key])
		if data == nil {
			return fmt.Errorf("%s has sent no %s", args[0], args[2])
		}
		if how == "spoilt" {
			data[len(data)/2] ^= 1
		}
		r.net.Inject(args[1], r.net.find(args[1]).cfg.Media[0], data)
	case "add":
		r.refused(args[0], r.net.AddNodes(args[0], args[1:]))
	case "remove":
		r.refused(args[0], r.net.RemoveNodes(args[0], args[1:]))
	case "ping":
		r.net.SetPing("ping "+args[0], args[1] == "answers")
	case "log":
		r.log = args[0]
	case "view":
		r.view(args[0])
	default:
		err = fmt.Errorf("unknown command")
	}
	return err
}

func (r *runner) refused(node string, err error) {
	if err != nil {
		r.printf("%s: refused: %v", node, err)
	}
}

func each(names []string, f func(string)) {
	for _, n := range names {
		f(n)
	}
}

func (r *runner) nodes(args []string) error {
	r.net = New(r.seed)
	r.net.OnEvent = r.event
	r.net.OnPacket = r.packet
	r.net.Drop = r.drop
	r.keys = Keys()
	cfg := hb.Config{Media: []string{"eth0"}, Format: wire.Netstring}
	var strangers []string
	for _, a := range args {
		k, v, option := strings.Cut(a, "=")
		if !option {
			cfg.Nodes = append(cfg.Nodes, a)
			continue
		}
		durations := map[string]*time.Duration{
			"keepalive": &cfg.Keepalive, "deadtime": &cfg.Deadtime, "warntime": &cfg.Warntime,
			"initdead": &cfg.Initdead, "deadping": &cfg.DeadPing, "grace": &cfg.StartGrace, "rexmit": &cfg.MaxRexmitDelay,
		}
		switch {
		case k == "auth" && v == "sha256":
			r.keys = wire.Keys{Send: 2, Keys: []wire.Key{{Index: 2, Method: wire.SHA256, Secret: []byte("secret")}}}
		case k == "order" && v == "yes":
			cfg.Ordered = true
		case k == "media":
			cfg.Media = strings.Split(v, ",")
		case k == "ping":
			for name := range strings.SplitSeq(v, ",") {
				cfg.Pings = append(cfg.Pings, hb.PingNode{Name: name, Medium: "ping " + name})
			}
		case k == "autojoin":
			cfg.Autojoin = map[string]hb.Autojoin{"other": hb.OthersJoin, "any": hb.AnyJoins}[v]
		case k == "stranger": // a node that is in its own list only
			strangers = append(strangers, v)
		case k == "format":
			formats := map[string]wire.Format{"classic": wire.Classic, "netstring": wire.Netstring, "both": wire.Both}
			cfg.Format = formats[v]
		case durations[k] != nil:
			d, err := time.ParseDuration(v)
			if err != nil {
				return err
			}
			*durations[k] = d
		default:
			return fmt.Errorf("unknown option %s", k)
		}
	}
	cfg.Keys = r.keys
	for _, cfg.Node = range cfg.Nodes {
		r.net.Add(cfg)
	}
	for _, name := range strangers {
		own := cfg
		own.Node, own.Nodes = name, append(slices.Clone(cfg.Nodes), name)
		r.net.Add(own)
	}
	return nil
}

func (r *runner) faults(args []string) (err error) {
	r.net.Faults = Faults{MinDelay: 100 * time.Microsecond, MaxDelay: 100 * time.Microsecond}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "loss":
			r.net.Loss, err = strconv.ParseFloat(v, 64)
		case "duplicate":
			r.net.Duplicate, err = strconv.ParseFloat(v, 64)
		case "reorder":
			r.net.Reorder, err = strconv.ParseFloat(v, 64)
		case "delay":
			low, high, _ := strings.Cut(v, "..")
			if r.net.MinDelay, err = time.ParseDuration(low); err == nil {
				r.net.MaxDelay, err = time.ParseDuration(high)
			}
		default:
			err = fmt.Errorf("unknown fault %s", k)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) drop(from, to, _ string, p hb.Packet) bool {
	for _, d := range r.drops {
		if d.from != from || d.to != to || d.n == 0 {
			continue
		}
		if m, _, err := wire.Decode(p.Data, r.keys); err == nil && m.Type() == d.typ {
			d.n--
			return true
		}
	}
	return false
}

func (r *runner) event(node string, e hb.Event) {
	if _, changed := e.(hb.NodeChanged); !changed && r.log == "deaths" {
		return
	}
	switch e := e.(type) {
	case hb.Delivered:
		r.printf("%s: %v%s", node, e, rest(e.Message))
	case hb.Ordered:
		r.printf("%s: %v%s", node, e, rest(e.Message))
	default:
		r.printf("%s: %v", node, e)
	}
}

func (r *runner) packet(from string, p hb.Packet, fates []Fate) {
	m, _, err := wire.Decode(p.Data, r.keys)
	if err != nil {
		panic(err)
	}
	r.last[from+" "+m.Type()] = slices.Clone(p.Data)
	verb, what := "sends", m.Type()
	if seq, ok := m.GetUint("seq", 16); ok {
		what += fmt.Sprintf(" #%d", seq)
		if seq <= r.newest[from] {
			verb = "sends again"
		}
		r.newest[from] = max(r.newest[from], seq)
	}
	lost := ""
	for _, f := range fates {
		if f.Lost {
			lost += " " + f.To
			if len(r.net.find(from).cfg.Media) > 1 {
				lost += ":" + f.Medium
			}
		}
	}
	if lost != "" {
		lost = " (lost to" + lost + ")"
	}
	if r.log == "events" || r.log == "deaths" {
		return
	}
	if t := m.Type(); r.log == "changes" && (t == "NS_probe" || t == "NS_alive") {
		return
	}
	// What is new in a status is all but its number.
	if said := rest(m) + lost; m.Type() == "status" && verb == "sends" && r.log != "all" {
		if r.shown[from] == said {
			return
		}
		r.shown[from] = said
	}
	r.printf("%s: %s %s%s%s", from, verb, what, rest(m), lost)
}

// rest is the fields of a message that are its own, numbers in decimal.
func rest(m wire.Message) string {
	s := ""
	for _, f := range m.Fields {
		switch f.Name {
		case "t", "src", "srcuuid", "destuuid", "seq", "hg", "ts", "ld", "ttl", "protocol", "nonce", "nscount", "systole", "ka":
			continue
		case "seen":
			s += fmt.Sprintf(" seen=%d", len(f.Value)/8) // how many nonces
			continue
		case "n": // of a probe: a number for each
			continue
		}
		value := strings.TrimSpace(string(f.Value))
		hexadecimal := f.Name == "dt" || f.Name == "ackseq" || f.Name == "firstseq" && m.Type() == "NS_nak_rexmit"
		if n, err := strconv.ParseUint(value, 16, 64); hexadecimal && err == nil {
			value = strconv.FormatUint(n, 10)
		}
		if strings.Contains(value, " ") {
			value = strconv.Quote(value)
		}
		s += " " + f.Name + "=" + value
	}
	return s
}

func (r *runner) view(node string) {
	v := r.net.Core(node).Snapshot(r.net.Now())
	r.printf("%s: %s, message #%d, %d unacknowledged", v.Node, v.Status, v.Seq, v.Unacked)
	if n := v.Counters; n.Suspicions > 0 {
		r.printf("%s: %d suspicions, %d cleared, %d early deaths", v.Node, n.Suspicions, n.Cleared, n.EarlyDeaths)
	}
	for _, p := range v.Peers {
		r.printf("%s:   %s %s generation %d dead time %v late %d missing %d lost %d", v.Node, p.Name, p.Status,
			p.Generation, p.Deadtime, p.LateBeats, p.Missing, p.Lost)
		for _, l := range p.Links {
			r.printf("%s:     %s %v, lost %.0f %%", v.Node, l.Medium, l.State, 100*l.Loss)
		}
	}
}
