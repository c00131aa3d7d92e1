package rollout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// ErrEntry says that bytes are not an [Entry] as [AppendEntry] writes it.
var ErrEntry = errors.New("not a ledger entry")

// The optional parts of an encoded entry, in the order in which they follow.
const (
	hasAssigned = 1 << iota
	hasRefused
	hasShunned
	hasOfferedAt
	hasGoodSince
	hasBadSince
	isDirty
	isMoved
	wasGood
	wasConnected
	knownParts = 1<<iota - 1
)

// AppendEntry appends the compact form of e to b. It is self-delimiting, so that
// entries may follow each other. Times keep whole milliseconds. An entry that was
// never assigned anything takes 20 bytes; each delivery adds 33, each time 6.
//
//	agent 16 | parts uvarint | result<<4|failure 1 | wave varint | deliveries | times
func AppendEntry(b []byte, e Entry) []byte {
	var parts uint64
	set := func(part uint64, on bool) {
		if on {
			parts |= part
		}
	}
	set(hasAssigned, e.Assigned != fleet.Delivery{})
	set(hasRefused, e.Refused != fleet.Delivery{})
	set(hasShunned, e.Shunned != fleet.Delivery{})
	set(hasOfferedAt, !e.OfferedAt.IsZero())
	set(hasGoodSince, !e.GoodSince.IsZero())
	set(hasBadSince, !e.BadSince.IsZero())
	set(isDirty, e.Dirty)
	set(isMoved, e.Moved)
	set(wasGood, e.BaseGood)
	set(wasConnected, e.BaseConnected)

	b = append(b, e.Agent[:]...)
	b = binary.AppendUvarint(b, parts)
	b = append(b, byte(e.Result)<<4|byte(e.Failure)&0xf)
	b = binary.AppendVarint(b, int64(e.Wave))
	if parts&hasAssigned != 0 {
		b = appendDelivery(b, e.Assigned)
	}
	if parts&hasRefused != 0 {
		b = appendDelivery(b, e.Refused)
	}
	if parts&hasShunned != 0 {
		b = appendDelivery(b, e.Shunned)
	}
	if parts&hasOfferedAt != 0 {
		b = binary.AppendVarint(b, e.OfferedAt.UnixMilli())
	}
	if parts&hasGoodSince != 0 {
		b = binary.AppendVarint(b, e.GoodSince.UnixMilli())
	}
	if parts&hasBadSince != 0 {
		b = binary.AppendVarint(b, e.BadSince.UnixMilli())
	}
	return b
}

func appendDelivery(b []byte, d fleet.Delivery) []byte {
	b = append(b, d.Config[:]...)
	return binary.AppendUvarint(b, uint64(d.Attempt))
}

// DecodeEntry reads what [AppendEntry] wrote and returns the bytes behind it. Any
// other input is an error that wraps [ErrEntry]; no input is read beyond its end.
func DecodeEntry(b []byte) (e Entry, rest []byte, err error) {
	r := reader{rest: b}
	r.bytes(e.Agent[:])
	parts := r.uvarint()
	var verdict [1]byte
	r.bytes(verdict[:])
	e.Result, e.Failure = Result(verdict[0]>>4), Failure(verdict[0]&0xf)
	wave := r.varint()
	e.Wave = int16(wave)
	if parts&hasAssigned != 0 {
		e.Assigned = r.delivery()
	}
	if parts&hasRefused != 0 {
		e.Refused = r.delivery()
	}
	if parts&hasShunned != 0 {
		e.Shunned = r.delivery()
	}
	if parts&hasOfferedAt != 0 {
		e.OfferedAt = r.time()
	}
	if parts&hasGoodSince != 0 {
		e.GoodSince = r.time()
	}
	if parts&hasBadSince != 0 {
		e.BadSince = r.time()
	}
	e.Dirty = parts&isDirty != 0
	e.Moved = parts&isMoved != 0
	e.BaseGood = parts&wasGood != 0
	e.BaseConnected = parts&wasConnected != 0
	switch {
	case r.short:
		return Entry{}, nil, fmt.Errorf("%w: truncated", ErrEntry)
	case parts&^knownParts != 0:
		return Entry{}, nil, fmt.Errorf("%w: unknown parts %#x", ErrEntry, parts)
	case int(e.Result) >= len(resultNames) || int(e.Failure) >= len(failureNames):
		return Entry{}, nil, fmt.Errorf("%w: unknown result %#x", ErrEntry, verdict[0])
	case wave < -1 || int64(e.Wave) != wave || r.wide:
		return Entry{}, nil, fmt.Errorf("%w: number out of range", ErrEntry)
	}
	return e, r.rest, nil
}

// reader takes fields off the front of rest. After the first that is not there
// whole, short is set and everything reads as zero.
type reader struct {
	rest  []byte
	short bool
	wide  bool // an attempt did not fit
}

func (r *reader) bytes(into []byte) {
	if r.short || len(r.rest) < len(into) {
		r.short = true
		return
	}
	r.rest = r.rest[copy(into, r.rest):]
}

func (r *reader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	return number(r, n, size)
}

func (r *reader) varint() int64 {
	n, size := binary.Varint(r.rest)
	return number(r, n, size)
}

func number[N int64 | uint64](r *reader, n N, size int) N {
	if r.short || size <= 0 {
		r.short = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) delivery() (d fleet.Delivery) {
	r.bytes(d.Config[:])
	attempt := r.uvarint()
	d.Attempt = uint32(attempt)
	if uint64(d.Attempt) != attempt {
		r.wide = true
	}
	return d
}

func (r *reader) time() time.Time {
	ms := r.varint()
	if r.short {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
