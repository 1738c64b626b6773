package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"systole/control/client"
	"systole/hb"
	"systole/hb/wire"
)

func TestBadMessages(t *testing.T) {
	fields := func(kv ...string) client.Message {
		m := client.Message{Type: "note", Fields: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			m.Fields[kv[i]] = kv[i+1]
		}
		return m
	}
	many := fields()
	for i := range maxFields + 1 {
		many.Fields[fmt.Sprintf("f%d", i)] = "x"
	}
	for _, tt := range []struct {
		m    client.Message
		want string
	}{
		{client.Message{}, `type "": is missing`},
		{client.Message{Type: "status"}, `type "status" belongs to the heartbeat protocol: choose another, such as app.status`},
		{client.Message{Type: "Resource"}, `belongs to the heartbeat protocol`},
		{client.Message{Type: "NS_probe"}, `belongs to the heartbeat protocol`},
		{client.Message{Type: "systole-view"}, `belongs to the heartbeat protocol`},
		{client.Message{Type: "hbapi-clstat"}, `belongs to the heartbeat protocol`},
		{client.Message{Type: "../../etc/shadow"}, `begins with '.'`},
		{client.Message{Type: "a/b"}, `contains '/'`},
		{client.Message{Type: "-n"}, `begins with '-'`},
		{client.Message{Type: strings.Repeat("x", 65)}, `is longer than 64 bytes`},
		{fields("", "x"), `field "": is missing`},
		{fields("a=b", "x"), `field "a=b": contains '='`},
		{fields("a\nb", "x"), `field "a\nb": contains '\n'`},
		{fields("naïve", "x"), `contains 'ï'`},
		{fields("seq", "1"), `field "seq": is written by the heartbeat itself`},
		{fields("dest", "node2"), `field "dest": is written by the heartbeat itself`},
		{fields("t", "status"), `field "t": is written`},
		{fields("a", ""), `field "a": is empty`},
		{fields("a", "x\x00"), `field "a": contains a NUL`},
		{fields("a", "x\x13"), `field "a": contains byte 0x13`},
		{fields("a", "\xff"), `field "a": is not UTF-8`},
		{fields("a", strings.Repeat("x", maxBytes/2), "b", strings.Repeat("x", maxBytes/2)), `field "b": makes the message longer than 16384 bytes`},
		{many, `65 fields, at most 64`},
		{client.Message{Type: "note", Fields: map[string]string{"a": "x"}, Binary: map[string][]byte{"a": {1}}}, `field "a": is there as text and as binary`},
		{client.Message{Type: "note", Binary: map[string][]byte{"a": nil}}, `field "a": is empty`},
		{client.Message{Type: "note", Binary: map[string][]byte{"auth": {1}}}, `field "auth": is written`},
		{client.Message{Type: "note", Dest: "node 2"}, `dest "node 2": contains ' '`},
	} {
		m, err := encode(tt.m)
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", tt.m.Type, err, tt.want)
		}
		if len(m.Fields) != 0 {
			t.Errorf("%+v: a message came with the error", tt.m)
		}
	}
}

// The types that programs must leave alone are those that hb or takeover act on.
func TestReserved(t *testing.T) {
	for _, typ := range []string{
		"status", "NS_st", "reqnodes", "repnodes", "starting", "resource", "ask_resources", "hb_takeover", "ip-request",
		"ip-request-resp", "shutdone", "stonith", "addnode", "delnode", "setweight", "setsite", "hbapi-clstat",
		"query-cstatus", "respond-cstatus", "num_ping_nodes", "you_are_dead", "abort_giveup", "NS_rexmit", "NS_nak_rexmit",
		"NS_ackmsg", "ifstat", "systole", "systole-view",
	} {
		if !Reserved(typ) {
			t.Errorf("%s can be sent by programs", typ)
		}
	}
	for _, typ := range []string{"app.status", "note", "statuses", "nsx"} {
		if Reserved(typ) {
			t.Errorf("%s cannot be sent by programs", typ)
		}
	}
}

// Whatever encode takes goes through every form of the wire, and arrives as it
// was sent.
func TestMessagesSurviveTheWire(t *testing.T) {
	keys := wire.Keys{Send: 1, Keys: []wire.Key{{Index: 1, Method: wire.SHA1, Secret: []byte("secret")}}}
	name := rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}`)
	rapid.Check(t, func(t *rapid.T) {
		m := client.Message{
			Type:   name.Draw(t, "type"),
			Fields: rapid.MapOfN(name, rapid.StringN(1, 20, -1), 0, 5).Draw(t, "fields"),
			Binary: rapid.MapOfN(name, rapid.SliceOfN(rapid.Byte(), 1, 20), 0, 5).Draw(t, "binary"),
		}
		w, err := encode(m)
		if err != nil {
			return
		}
		for _, form := range []wire.Format{wire.Classic, wire.Netstring, wire.Both} {
			p, err := wire.Encode(nil, w, form, keys)
			if err != nil {
				t.Fatalf("%v: %v", form, err)
			}
			back, _, err := wire.Decode(p, keys)
			if err != nil {
				t.Fatalf("%v: %v", form, err)
			}
			var e client.Event
			message(&e, hb.Ordered{Node: "node2", Message: back})
			if e.Type != m.Type || len(e.Fields) != len(m.Fields) || len(e.Binary) != len(m.Binary) {
				t.Fatalf("%v: %+v became %+v", form, m, e)
			}
			for k, v := range m.Fields {
				if e.Fields[k] != v {
					t.Fatalf("%v: field %s: %q became %q", form, k, v, e.Fields[k])
				}
			}
			for k, v := range m.Binary {
				if string(e.Binary[k]) != string(v) {
					t.Fatalf("%v: field %s: %x became %x", form, k, v, e.Binary[k])
				}
			}
		}
	})
}
