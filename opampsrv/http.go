package opampsrv

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// What a body can be, besides good.
var (
	errTooBig   = errors.New("body is over the limit")
	errEncoding = errors.New("content encoding is neither gzip nor identity")
)

// poll answers one POST: one message in, one message out, whatever happens. An
// offer that waits goes into the reply.
func (s *Server) poll(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	buf := s.buffers.Get().(*bytes.Buffer)
	defer s.release(buf)
	buf.Reset()
	if err := readBody(buf, w, req, s.cfg.MaxMessage); err != nil {
		s.badBody(w, err)
		return
	}
	s.metrics.received.WithLabelValues(overHTTP).Inc()
	m, err := decode(buf.Bytes())
	var x exchange
	if err != nil {
		x = exchange{reply: refusal(nil, badRequest, err), bad: badMalformed}
	} else if id, bad := agentID(m); bad == nil {
		if !s.begin(id) { // two at once for one agent: which is first?
			s.reject(w, overHTTP, rejectedCapacity, http.StatusServiceUnavailable)
			return
		}
		defer s.finish(id)
		x = s.receive(nil, m, now)
	} else {
		x = s.receive(nil, m, now)
	}
	if x.bad != "" {
		s.metrics.errors.WithLabelValues(overHTTP, x.bad).Inc()
	}
	for _, r := range x.reports {
		s.cfg.OnReport(r)
	}
	offer := s.collect(x.agent)
	s.metrics.duration.WithLabelValues(overHTTP).Observe(time.Since(now).Seconds())
	if err := s.respond(w, req, x.reply, offer); err != nil {
		s.metrics.errors.WithLabelValues(overHTTP, badSend).Inc()
		s.log.Debug("poll was not answered", "err", err)
		s.giveBack(x.agent, offer)
	}
}

// badBody answers a body that could not be read.
func (s *Server) badBody(w http.ResponseWriter, err error) {
	reason, code := badMalformed, http.StatusBadRequest
	switch {
	case errors.Is(err, errTooBig):
		reason, code = badTooBig, http.StatusRequestEntityTooLarge
	case errors.Is(err, errEncoding):
		code = http.StatusUnsupportedMediaType
	}
	s.metrics.errors.WithLabelValues(overHTTP, reason).Inc()
	http.Error(w, strings.ToLower(http.StatusText(code)), code)
}

// readBody reads a body that is at most limit bytes long, before and after it is
// decompressed.
func readBody(buf *bytes.Buffer, w http.ResponseWriter, req *http.Request, limit int64) error {
	var r io.Reader = http.MaxBytesReader(w, req.Body, limit)
	switch strings.ToLower(strings.TrimSpace(req.Header.Get("Content-Encoding"))) {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return tooBig(err)
		}
		r = z
	default:
		return errEncoding
	}
	n, err := io.Copy(buf, io.LimitReader(r, limit+1))
	if err != nil {
		return tooBig(err)
	}
	if n > limit {
		return errTooBig
	}
	return nil
}

func tooBig(err error) error {
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return errTooBig
	}
	return err
}

// begin and finish hold the agent for one POST, so that its reports stay in order.
func (s *Server) begin(id fleet.AgentID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, busy := s.busy[id]; busy {
		return false
	}
	s.busy[id] = struct{}{}
	return true
}

func (s *Server) finish(id fleet.AgentID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
}

// collect takes the offer that waits for a polling agent, and notes it in case the
// agent never sees the reply and repeats itself.
func (s *Server) collect(a *agent) *payload {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a == nil || a.conn != nil {
		return nil
	}
	a.given = a.takeOffer()
	return a.given
}

// giveBack puts an offer that could not be written back, unless there is a newer one.
func (s *Server) giveBack(a *agent, p *payload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a != nil && p != nil && a.live && a.conn == nil && a.offer == nil {
		a.offer = p
	}
}

// respond writes the reply, compressed when the agent can read that. An offer
// that makes it too long stays out.
func (s *Server) respond(w http.ResponseWriter, req *http.Request, m *protobufs.ServerToAgent, p *payload) error {
	body, err := appendMessage(nil, m, p)
	if err != nil {
		return err
	}
	if int64(len(body)) > s.cfg.MaxMessage {
		s.oversized(overHTTP, len(body))
		if body, err = appendMessage(nil, m, nil); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", protobufType)
	h.Set("Vary", "Accept-Encoding")
	if acceptsGzip(req.Header.Values("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		var zipped bytes.Buffer
		z := s.zippers.Get().(*gzip.Writer)
		defer s.zippers.Put(z)
		z.Reset(&zipped)
		if _, err := z.Write(body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		body = zipped.Bytes()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		return err
	}
	s.metrics.sent.WithLabelValues(overHTTP).Inc()
	return nil
}

// acceptsGzip reads Accept-Encoding: gzip, or anything, with a weight above zero.
func acceptsGzip(values []string) bool {
	named, rest := -1.0, -1.0
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(params), " ", ""), "q="); ok {
			parsed, err := strconv.ParseFloat(q, 64)
			if err != nil {
				parsed = 0
			}
			weight = parsed
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "gzip", "x-gzip":
			named = weight
		case "*":
			rest = weight
		}
	}
	return named > 0 || named < 0 && rest > 0
}

func newZipperPool() *sync.Pool {
	return &sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}
}
