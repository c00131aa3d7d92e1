package rollout

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"pgregory.net/rapid"
)

func anyTime(t *rapid.T, name string) time.Time {
	if rapid.Bool().Draw(t, name+" zero") {
		return time.Time{}
	}
	return time.UnixMilli(rapid.Int64Range(-1<<40, 1<<45).Draw(t, name)).UTC()
}

func anyDelivery(t *rapid.T, name string) (d fleet.Delivery) {
	if rapid.Bool().Draw(t, name+" zero") {
		return d
	}
	copy(d.Config[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, name))
	d.Attempt = rapid.Uint32().Draw(t, name+" attempt")
	return d
}

func anyEntry(t *rapid.T) (e Entry) {
	copy(e.Agent[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "agent"))
	e.Assigned = anyDelivery(t, "assigned")
	e.Refused = anyDelivery(t, "refused")
	e.Shunned = anyDelivery(t, "shunned")
	e.Wave = rapid.Int16Range(-1, 1<<15-1).Draw(t, "wave")
	e.Result = rapid.SampledFrom(Results()).Draw(t, "result")
	e.Failure = Failure(rapid.IntRange(0, len(failureNames)-1).Draw(t, "failure"))
	e.Dirty = rapid.Bool().Draw(t, "dirty")
	e.Moved = rapid.Bool().Draw(t, "moved")
	e.BaseGood = rapid.Bool().Draw(t, "base good")
	e.BaseConnected = rapid.Bool().Draw(t, "base connected")
	e.OfferedAt = anyTime(t, "offered at")
	e.GoodSince = anyTime(t, "good since")
	e.BadSince = anyTime(t, "bad since")
	return e
}

// TestI21Codec is the law decode(encode(entry)) = entry, also when entries follow
// each other.
func TestI21Codec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfN(rapid.Custom(anyEntry), 1, 4).Draw(t, "entries")
		var b []byte
		for _, e := range entries {
			b = AppendEntry(b, e)
		}
		for _, want := range entries {
			got, rest, err := DecodeEntry(b)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("got  %+v\nwant %+v", got, want)
			}
			b = rest
		}
		if len(b) != 0 {
			t.Fatalf("%d bytes left", len(b))
		}
	})
}

// TestCodecForgetsNoField sets each field of an Entry by reflection, one at a
// time, and expects to find it again.
func TestCodecForgetsNoField(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	for i := range reflect.TypeFor[Entry]().NumField() {
		var want Entry
		field := reflect.ValueOf(&want).Elem().Field(i)
		name := reflect.TypeFor[Entry]().Field(i).Name
		switch field.Interface().(type) {
		case fleet.AgentID:
			field.Set(reflect.ValueOf(fleet.AgentID{1}))
		case fleet.Delivery:
			field.Set(reflect.ValueOf(fleet.Delivery{Config: fleet.Hash{1}, Attempt: 7}))
		case time.Time:
			field.Set(reflect.ValueOf(at))
		case bool:
			field.SetBool(true)
		case int16:
			field.SetInt(3)
		case Result, Failure:
			field.SetUint(4)
		default:
			t.Fatalf("field %s: a type this test does not know", name)
		}
		got, rest, err := DecodeEntry(AppendEntry(nil, want))
		if err != nil || len(rest) != 0 {
			t.Fatalf("field %s: %v, %d bytes left", name, err, len(rest))
		}
		if got != want {
			t.Errorf("field %s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestDecodeEntryRefuses(t *testing.T) {
	good := AppendEntry(nil, Entry{Agent: fleet.AgentID{1}, Assigned: fleet.Delivery{Config: fleet.Hash{2}}, Wave: -1})
	for n := range good {
		if _, _, err := DecodeEntry(good[:n]); !errors.Is(err, ErrEntry) {
			t.Errorf("%d of %d bytes: got %v, want ErrEntry", n, len(good), err)
		}
	}
	bad := bytes.Clone(good)
	bad[17] = 0xff // a result that does not exist
	if _, _, err := DecodeEntry(bad); !errors.Is(err, ErrEntry) {
		t.Errorf("unknown result: got %v", err)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	at := time.UnixMilli(1_780_000_000_000).UTC()
	f.Add(AppendEntry(nil, Entry{}))
	f.Add(AppendEntry(nil, Entry{
		Assigned: fleet.Delivery{Config: fleet.Hash{1}, Attempt: 2}, Refused: fleet.Delivery{Config: fleet.Hash{3}},
		Wave: 2, Result: Failed, Failure: Lost, Dirty: true, OfferedAt: at, GoodSince: at, BadSince: at,
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := DecodeEntry(b)
		if err != nil {
			return
		}
		if len(rest) > len(b) {
			t.Fatal("rest is longer than the input")
		}
		again, left, err := DecodeEntry(AppendEntry(nil, e))
		if err != nil || len(left) != 0 || again != e {
			t.Fatalf("decode(encode(%+v)) = %+v, %d left, %v", e, again, len(left), err)
		}
	})
}
