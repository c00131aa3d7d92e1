package opampsrv_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/opampsrv"
)

const endpoint = "http://pipe/v1/opamp"

func request(t *testing.T, client *http.Client, method string, body []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, endpoint, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

// post sends one message over plain HTTP and returns the reply.
func post(t *testing.T, client *http.Client, m *protobufs.AgentToServer) *protobufs.ServerToAgent {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	resp, body := request(t, client, http.MethodPost, b)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	got := new(protobufs.ServerToAgent)
	if err := proto.Unmarshal(body, got); err != nil {
		t.Fatal(err)
	}
	return got
}

// Obligations 1, 19, 22, 23 over plain HTTP.
func TestPollsAreAnsweredAndOffersWaitForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		client := dialer(h)
		if got := post(t, client, full(1, 0)); got.GetCapabilities() != 7 || !bytes.Equal(got.GetInstanceUid(), uid(1)) {
			t.Errorf("first reply %v", got)
		}
		if got := post(t, client, bare(1, 1)); !proto.Equal(got, &protobufs.ServerToAgent{InstanceUid: uid(1)}) {
			t.Errorf("steady reply %v", got)
		}
		h.offer(1, "a: 1")
		d := h.offer(1, "a: 2")
		if got := post(t, client, bare(1, 2)).GetRemoteConfig(); !bytes.Equal(got.GetConfigHash(), d.Wire()) {
			t.Errorf("the next reply has %v", got)
		}
		if got := post(t, client, bare(1, 3)); got.GetRemoteConfig() != nil {
			t.Errorf("offered twice: %v", got)
		}
		if h.srv.Connections() != 1 || h.metric("connections", "http") != 1 {
			t.Errorf("%d connections", h.srv.Connections())
		}
	})
}

// Obligations 4, 10, 25, 58 over plain HTTP.
func TestMalformedPostsGetBadRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		client := dialer(h)
		for name, body := range map[string][]byte{
			"garbage": {0xff, 0xff}, "nothing": {}, "short uid": append([]byte{0x0a, 15}, make([]byte, 15)...),
		} {
			_, got := request(t, client, http.MethodPost, body)
			m := new(protobufs.ServerToAgent)
			if err := proto.Unmarshal(got, m); err != nil || m.GetErrorResponse().GetType() != 1 {
				t.Errorf("%s: %v %v", name, m, err)
			}
		}
		if r := h.taken(); len(r) != 0 {
			t.Errorf("reports: %+v", r)
		}
	})
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Obligations 3, 15, 16, 17 and the methods.
func TestEncodingsMethodsAndSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{MaxMessage: 10_000})
		client := dialer(h)
		good, err := proto.Marshal(full(1, 0))
		if err != nil {
			t.Fatal(err)
		}
		big := make([]byte, 10_001)
		for _, tc := range []struct {
			name, method string
			body         []byte
			header       []string
			code         int
			gzipped      bool
		}{
			{"identity", "POST", good, nil, 200, false},
			{"charset", "POST", good, []string{"Content-Type", "application/x-protobuf; charset=utf-8"}, 200, false},
			{"gzip", "POST", zipped(t, good), []string{"Content-Encoding", "gzip"}, 200, false},
			{"gzip back", "POST", good, []string{"Accept-Encoding", "deflate, gzip"}, 200, true},
			{"gzip not wanted", "POST", good, []string{"Accept-Encoding", "gzip;q=0, *;q=1"}, 200, false},
			{"anything back", "POST", good, []string{"Accept-Encoding", "*"}, 200, true},
			{"zstd", "POST", good, []string{"Content-Encoding", "zstd"}, 415, false},
			{"not gzip", "POST", good, []string{"Content-Encoding", "gzip"}, 400, false},
			{"too big", "POST", big, nil, 413, false},
			{"bomb", "POST", zipped(t, big), []string{"Content-Encoding", "gzip"}, 413, false},
			{"GET", "GET", nil, nil, 405, false},
			{"other type", "POST", good, []string{"Content-Type", "application/json"}, 415, false},
			{"browser", "GET", nil, []string{"Content-Type", ""}, 426, false},
			{"bad upgrade", "GET", nil, []string{"Content-Type", "", "Connection", "Upgrade", "Upgrade", "websocket"}, 400, false},
		} {
			resp, body := request(t, client, tc.method, tc.body, tc.header...)
			if resp.StatusCode != tc.code || (resp.Header.Get("Content-Encoding") == "gzip") != tc.gzipped {
				t.Errorf("%s: %s %v %q", tc.name, resp.Status, resp.Header, body)
			}
		}
		resp, err := client.Get("http://pipe/elsewhere")
		if err != nil || resp.StatusCode != http.StatusNotFound {
			t.Errorf("another path: %v %v", resp, err)
		}
		_ = resp.Body.Close()
	})
}

// Obligation 21.
func TestPollingAgentsGoWithSilenceOrAGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{PollTimeout: 100 * time.Second})
		client := dialer(h)
		post(t, client, full(1, 0))
		post(t, client, full(2, 0))
		h.taken()
		bye := bare(2, 1)
		bye.AgentDisconnect = &protobufs.AgentDisconnect{}
		post(t, client, bye)
		if r := h.taken(); len(r) != 2 || !r[1].Gone || r[1].Agent != agentID(2) {
			t.Errorf("after the goodbye: %+v", r)
		}
		time.Sleep(99 * time.Second)
		if r := h.taken(); len(r) != 0 {
			t.Errorf("too early: %+v", r)
		}
		time.Sleep(12 * time.Second)
		if r := h.taken(); len(r) != 1 || !r[0].Gone || r[0].Agent != agentID(1) {
			t.Errorf("after the silence: %+v", r)
		}
		if h.srv.Connections() != 0 {
			t.Errorf("%d connections", h.srv.Connections())
		}
		post(t, client, bare(1, 1))
		if r := h.taken(); len(r) != 1 || r[0].Gone || r[0].Remote == nil {
			t.Errorf("back again: %+v", r)
		}
	})
}

// An agent that changes its transport is one agent.
func TestFromPollingToAWebSocketAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, opampsrv.Config{})
		client := dialer(h)
		post(t, client, full(1, 0))
		p := h.dial()
		p.ask(bare(1, 1))
		if h.srv.Connections() != 1 || h.metric("connections", "http") != 0 {
			t.Errorf("%d connections on a WebSocket", h.srv.Connections())
		}
		post(t, client, bare(1, 2))
		_ = p.ws.Close()
		r := h.taken()
		for i := range r {
			if r[i].Gone || i > 0 && r[i].Session <= r[i-1].Session {
				t.Errorf("reports: %+v", r)
			}
		}
		if h.srv.Connections() != 1 || h.metric("connections", "http") != 1 {
			t.Errorf("%d connections over HTTP", h.srv.Connections())
		}
	})
}
