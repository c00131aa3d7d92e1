package opampsrv

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// maxDepth is how deep a message may nest: health trees and attribute values do.
const maxDepth = 200

// What is wrong with a message that cannot be taken. The texts go to the agent.
var (
	errHeader    = errors.New("the message header is not 0")
	errMalformed = errors.New("not an AgentToServer message")
	errText      = errors.New("not a binary WebSocket message")
	errUID       = errors.New("instance_uid is not 16 bytes, or is all zero")
)

// decodeFrame reads one WebSocket message: a varint header that must be 0, and
// the protobuf. (OpAMP specification, "WebSocket Message Format".)
func decodeFrame(b []byte) (*protobufs.AgentToServer, error) {
	if len(b) > 0 {
		header, n := binary.Uvarint(b)
		if n <= 0 || header != 0 {
			return nil, errHeader
		}
		b = b[n:]
	}
	return decode(b)
}

// decode reads one protobuf. Unknown fields are ignored, as the protocol asks.
func decode(b []byte) (*protobufs.AgentToServer, error) {
	m := new(protobufs.AgentToServer)
	o := proto.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxDepth}
	if err := o.Unmarshal(b, m); err != nil {
		return nil, errMalformed
	}
	return m, nil
}

// agentID reads the instance_uid of a message.
func agentID(m *protobufs.AgentToServer) (fleet.AgentID, error) {
	id, err := fleet.AgentID{}, errUID
	if len(m.GetInstanceUid()) == len(id) {
		copy(id[:], m.GetInstanceUid())
	}
	if id != (fleet.AgentID{}) {
		err = nil
	}
	return id, err
}

// payload is one delivery as it goes over the wire, shared by all agents it is
// offered to: the remote_config field of a ServerToAgent, encoded.
type payload struct {
	delivery fleet.Delivery
	wire     []byte
}

func newPayload(d fleet.Delivery, c fleet.Config) (*payload, error) {
	files := make(map[string]*protobufs.AgentConfigFile, len(c.Files))
	for _, f := range c.Files {
		files[f.Name] = &protobufs.AgentConfigFile{Body: f.Body, ContentType: f.ContentType}
	}
	m := &protobufs.ServerToAgent{RemoteConfig: &protobufs.AgentRemoteConfig{
		Config:     &protobufs.AgentConfigMap{ConfigMap: files},
		ConfigHash: d.Wire(),
	}}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding config %s: %w", d.Short(), err)
	}
	return &payload{delivery: d, wire: wire}, nil
}

// appendMessage appends m, and p when it is not nil: a message's fields may come
// in any order, so that joining two encodings is one of both.
func appendMessage(b []byte, m *protobufs.ServerToAgent, p *payload) ([]byte, error) {
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return b, fmt.Errorf("encoding a message: %w", err)
	}
	if p != nil {
		b = append(b, p.wire...)
	}
	return b, nil
}

// messageSize is the length of what appendMessage appends for a message that
// holds an instance_uid and p only: what an offer needs at least.
func messageSize(p *payload) int64 {
	return int64(protowire.SizeTag(1)+protowire.SizeBytes(len(fleet.AgentID{}))) + int64(len(p.wire))
}

// refusal is a reply that says no: only the uid and the error may be set.
func refusal(uid []byte, kind protobufs.ServerErrorResponseType, why error) *protobufs.ServerToAgent {
	return &protobufs.ServerToAgent{
		InstanceUid: uid,
		ErrorResponse: &protobufs.ServerErrorResponse{
			Type: kind, ErrorMessage: why.Error(),
		},
	}
}

const (
	badRequest  = protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest
	unavailable = protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable
)
