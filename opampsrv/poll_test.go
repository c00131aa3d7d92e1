package opampsrv

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Reports of one agent stay in order: a second POST while the first is being
// answered is turned away, and clients repeat it.
func TestTwoPollsOfOneAgentAtOnceAreNotInterleaved(t *testing.T) {
	body, err := proto.Marshal(&protobufs.AgentToServer{InstanceUid: bytes.Repeat([]byte{1}, 16)})
	if err != nil {
		t.Fatal(err)
	}
	poll := func(s *Server) *httptest.ResponseRecorder {
		req := httptest.NewRequest(http.MethodPost, "/v1/opamp", bytes.NewReader(body))
		req.Header.Set("Content-Type", protobufType)
		w := httptest.NewRecorder()
		s.handle(w, req)
		return w
	}
	var s *Server
	var inner *httptest.ResponseRecorder
	s, err = New(Config{OnReport: func(fleet.Report) {
		if inner == nil {
			inner = poll(s)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if outer := poll(s); outer.Code != http.StatusOK {
		t.Errorf("the first got %d", outer.Code)
	}
	if inner.Code != http.StatusServiceUnavailable || inner.Header().Get("Retry-After") == "" {
		t.Errorf("the second got %d %v", inner.Code, inner.Header())
	}
	if again := poll(s); again.Code != http.StatusOK {
		t.Errorf("the next got %d", again.Code)
	}
}

// An offer that could not be written waits for the next poll, unless there is a
// newer one by then.
func TestAnOfferInALostReplyIsNotLost(t *testing.T) {
	s, err := New(Config{OnReport: func(fleet.Report) {}})
	if err != nil {
		t.Fatal(err)
	}
	older, newer := &payload{wire: []byte("1")}, &payload{wire: []byte("2")}
	a := &agent{live: true, caps: fleet.AcceptsRemoteConfig}
	s.giveBack(a, older)
	if got := s.collect(a); got != older {
		t.Errorf("collected %v", got)
	}
	a.offer = newer
	s.giveBack(a, older)
	if got := s.collect(a); got != newer {
		t.Errorf("collected %v", got)
	}
}

// A client that never saw the reply repeats its message, number and all, and gets
// the offer again; the next message says that the reply arrived.
func TestARepeatedPollGetsItsOfferAgain(t *testing.T) {
	s, err := New(Config{OnReport: func(fleet.Report) {}})
	if err != nil {
		t.Fatal(err)
	}
	poll := func(seq uint64) *payload {
		x := s.receive(nil, &protobufs.AgentToServer{
			InstanceUid: bytes.Repeat([]byte{1}, 16), SequenceNum: seq, Capabilities: uint64(fleet.AcceptsRemoteConfig),
		}, time.Now())
		return s.collect(x.agent)
	}
	poll(1)
	config := fleet.NewConfig(fleet.File{Body: []byte("a: b")})
	if err := s.Offer(fleet.AgentID(bytes.Repeat([]byte{1}, 16)), fleet.Delivery{Config: config.Hash}, config); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		seq  uint64
		want bool
	}{{2, true}, {2, true}, {3, false}, {3, false}} {
		if got := poll(test.seq) != nil; got != test.want {
			t.Errorf("message %d was answered with an offer: %v, want %v", test.seq, got, test.want)
		}
	}
}

// broken is a listener that fails.
type broken struct{ net.Listener }

var errBroken = errors.New("no more sockets")

func (broken) Accept() (net.Conn, error) { return nil, errBroken }
func (broken) Close() error              { return nil }
func (broken) Addr() net.Addr            { return &net.TCPAddr{} }

func TestServeReturnsWhatEndedTheListener(t *testing.T) {
	s, err := New(Config{OnReport: func(fleet.Report) {}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background(), broken{}); !errors.Is(err, errBroken) {
		t.Errorf("Serve returned %v", err)
	}
}
