package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"systole/control/broker"
	"systole/control/broker/brokertest"
)

// FuzzRequest sends any body to any path: a request is done at most once, and
// only if it was understood; a refusal says why, as JSON.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{"/v1/standby", "/v1/takeover", "/v1/quiesce", "/v1/resume", "/v1/messages"} {
		for _, body := range []string{`{"class":"all"}`, `{"server":"192.0.2.1","service":""}`, `{"class":"all"}{}`, `{"clas":"all"}`, `{"class":1}`, "", "[", `{"class":"` + strings.Repeat("x", 100) + `"}`} {
			f.Add("POST", path, body)
		}
	}
	f.Add("GET", "/v1/status", "")
	f.Add("POST", "/v1/reload", "x")
	f.Add("DELETE", "/v1/../status?a=b#c", "")
	// A broker that has stopped answers at once; FuzzMessage is for one that runs.
	stopped, cancel := context.WithCancel(f.Context())
	cancel()
	b := broker.New(brokertest.New())
	b.Run(stopped)
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://systole"+path, strings.NewReader(body))
		if err != nil || !strings.HasPrefix(r.URL.Path, "/") {
			t.Skip()
		}
		d := &fakeDirector{}
		w := httptest.NewRecorder()
		Handler(d, b).ServeHTTP(w, r)
		if len(d.calls) > 1 || len(d.calls) == 1 && w.Code != http.StatusOK {
			t.Fatalf("%s %s %q: answered %d, done: %q", method, path, body, w.Code, d.calls)
		}
		if w.Code == http.StatusConflict {
			var e errorReply
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error == "" {
				t.Fatalf("%s %s %q: refused with %q", method, path, body, w.Body)
			}
		}
	})
}
