package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The answers of the engine that decide something.
const (
	codeWrongSequence = 10071 // the fence, or the compare-and-set, has been overtaken
	codeBusy          = 10164 // another conditional write is in flight: not stored, try again
	codeTooMany       = 10210 // batches in flight: likewise
	codeIncomplete    = 10176 // a batch did not arrive whole: not stored, try again
)

// expect is a condition of a write: it is stored only if the last record of the
// subject has the sequence (0: there is none).
type expect struct {
	subject  string
	sequence uint64
}

func (x *expect) headers(h nats.Header) {
	if x == nil {
		return
	}
	h.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(x.sequence, 10))
	h.Set(jetstream.ExpectedLastSubjSeqSubjHeader, x.subject)
}

// ack is the answer of the engine to a write.
type ack struct {
	Stream string              `json:"stream"`
	Seq    uint64              `json:"seq"`
	Error  *jetstream.APIError `json:"error"`
}

// request stores one record, synced when it returns, and returns its sequence. An
// error that is no [jetstream.APIError] means that the outcome is unknown.
func (e *engine) request(ctx context.Context, m message, when *expect) (uint64, error) {
	msg := &nats.Msg{Subject: m.subject, Data: m.sealed, Header: nats.Header{}}
	when.headers(msg.Header)
	return e.send(ctx, msg)
}

func (e *engine) send(ctx context.Context, msg *nats.Msg) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	reply, err := e.conn.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", msg.Subject, err)
	}
	var a ack
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return 0, fmt.Errorf("write %s: %w", msg.Subject, err)
	}
	switch {
	case a.Error != nil:
		return 0, fmt.Errorf("write %s: %w", msg.Subject, a.Error)
	case a.Seq == 0:
		return 0, fmt.Errorf("write %s: the engine answered nothing", msg.Subject)
	}
	return a.Seq, nil
}

// batch stores all messages or none. The first is the one with the fence, the last
// the one with the compare-and-set; id is new for every try.
func (e *engine) batch(ctx context.Context, id string, messages []message, fence, last expect) (uint64, error) {
	for i, m := range messages {
		msg := &nats.Msg{Subject: m.subject, Data: m.sealed, Header: nats.Header{}}
		msg.Header.Set("Nats-Batch-Id", id)
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i == 0 {
			fence.headers(msg.Header)
		}
		if i == len(messages)-1 {
			last.headers(msg.Header)
			msg.Header.Set("Nats-Batch-Commit", "1")
			return e.send(ctx, msg)
		}
		if err := e.conn.PublishMsg(msg); err != nil {
			return 0, fmt.Errorf("write %s: %w", m.subject, err)
		}
	}
	return 0, errors.New("an empty batch")
}

// code returns the engine's own code of an error, 0 if it is not the engine's.
func code(err error) jetstream.ErrorCode {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode
	}
	return 0
}
