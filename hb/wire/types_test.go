package wire

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messages is every type of heartbeat-wire.md section 5 with its own fields, as
// pairs of name and value. Those marked are in the captures, too, where the
// real implementation has written them.
var messages = map[string]struct {
	captured bool
	fields   []string
}{
	"status":          {true, []string{"st", "active", "dt", "1388", "protocol", "1"}},
	"NS_st":           {false, []string{"st", "ping", "info", "ping"}},
	"reqnodes":        {true, []string{"dest", "hbnode2"}},
	"repnodes":        {true, []string{"dest", "hbnode2", "nodelist", "hbnode1 hbnode2 ", "delnodelist", " "}},
	"starting":        {true, nil},
	"resource":        {true, []string{"rsc_hold", "all", "rtype", "full", "isstable", "1", "info", "mach_down"}},
	"ask_resources":   {true, []string{"rsc_hold", "foreign", "info", "me"}},
	"hb_takeover":     {true, []string{"rsc_hold", "local"}},
	"ip-request":      {true, []string{"ipaddr", "10.0.0.1/24/eth0"}},
	"ip-request-resp": {true, []string{"dest", "hbnode2", "ipaddr", "10.0.0.1/24/eth0", "weown", "yes", "ok", "OK"}},
	"shutdone":        {true, []string{"st", "dead"}},
	"stonith":         {true, []string{"node", "hbnode2", "result", "n_stnth"}},
	"addnode":         {false, []string{"nodelist", "hbnode3 hbnode4"}},
	"delnode":         {false, []string{"nodelist", "hbnode3"}},
	"setweight":       {false, []string{"node", "hbnode2", "weight", "200"}},
	"setsite":         {false, []string{"node", "hbnode2", "site", "two"}},
	"hbapi-clstat":    {false, []string{"st", "join", "from_id", "ipfail", "to_id", "ipfail", "info", "signon", "client_gen", "1"}},
	"query-cstatus":   {false, []string{"cn", "ipfail", "from_id", "cl_status"}},
	"respond-cstatus": {false, []string{"dest", "hbnode2", "result", "ok", "cn", "ipfail", "to_id", "cl_status", "cs", "online"}},
	"num_ping_nodes":  {false, []string{"dest", "hbnode2", "from_id", "ipfail", "to_id", "ipfail", "client_gen", "1", "num_ping", "2"}},
	"you_are_dead":    {false, []string{"dest", "hbnode2", "from_id", "ipfail", "to_id", "ipfail", "client_gen", "1"}},
	"abort_giveup":    {false, []string{"dest", "hbnode2", "from_id", "ipfail", "to_id", "ipfail", "client_gen", "1"}},
	"NS_rexmit":       {true, []string{"dest", "hbnode2", "firstseq", "17", "lastseq", "17"}},
	"NS_nak_rexmit":   {false, []string{"firstseq", "1f", "dest", "hbnode2", "info", "seqno too low"}},
	"NS_ackmsg":       {true, []string{"dest", "hbnode2", "ackseq", "a"}},
	"no-such-type":    {false, []string{"anything", "carried along = unharmed", "more", "<<<"}},
}

// TestEveryMessageType: each type, with the common fields around it, survives
// each form and method, and is then written as the same bytes again.
func TestEveryMessageType(t *testing.T) {
	for _, typ := range slices.Sorted(maps.Keys(messages)) {
		m := New(typ, messages[typ].fields...)
		m.SetBinary("destuuid", []byte("\x00\n,=uuid of 2%%%"))
		m.Set("src", "hbnode1")
		m.SetBinary("srcuuid", []byte("\xff\x13>>>uuid of 1\x00"))
		if typ[:3] != "NS_" {
			m.Set("seq", "2f")
			m.Set("ld", "0.81 0.58 0.31 2/94 26")
		}
		m.Set("hg", "6b02bb72")
		m.Set("ts", "6b02bbb5")
		m.Set("ttl", "3")
		for _, key := range allKeys.Keys {
			k := Keys{Send: key.Index, Keys: allKeys.Keys}
			for f := Classic; f <= Both; f++ {
				p, err := Encode(nil, m, f, k)
				if err != nil {
					t.Fatalf("%s, %v, %v: %v", typ, f, key, err)
				}
				got, form, err := Decode(p, k)
				if err != nil || form != f {
					t.Fatalf("%s, %v, %v: %v %v\n%q", typ, f, key, form, err, p)
				}
				if diff := cmp.Diff(m, got); diff != "" {
					t.Fatalf("%s, %v, %v (-want +got):\n%s", typ, f, key, diff)
				}
				if again, err := Encode(nil, got, form, k); err != nil || !bytes.Equal(again, p) {
					t.Fatalf("%s, %v, %v: %v\n got %q\nwant %q", typ, f, key, err, again, p)
				}
				if f == Netstring {
					continue // has no text of its own
				}
				// What a serial line makes of it is the same message.
				text, err := AppendText(nil, p)
				if err != nil {
					t.Fatalf("%s, %v, %v as text: %v", typ, f, key, err)
				}
				if got, _, err := Decode(text, k); err != nil || cmp.Diff(m, got) != "" {
					t.Fatalf("%s, %v, %v as text: %v\n%s", typ, f, key, err, cmp.Diff(m, got))
				}
			}
		}
	}
}

// TestCapturedTypes: the table knows which types the captures have.
func TestCapturedTypes(t *testing.T) {
	var want []string
	for typ, m := range messages {
		if m.captured {
			want = append(want, typ)
		}
	}
	slices.Sort(want)
	seen := map[string]bool{}
	for _, file := range captureFiles(t) {
		for _, p := range captured(t, file) {
			m, _, err := Decode(p, captureKeys)
			if err != nil {
				t.Fatal(err)
			}
			seen[m.Type()] = true
		}
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("types in captures (-table +captures):\n%s", diff)
	}
}
