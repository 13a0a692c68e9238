// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// What a cache over a storage of record promises for one key. Other keys do not matter to it, but that in a
// cache whose budget is full an object may go at any time.
//
//   - At most one object is in the cache. Every object that was ever made has a number of its own; what has left
//     never comes back.
//   - get gives the object that is there. If there is none it loads one, with a higher number than all that were
//     loaded before, if the storage of record has the segment; else it says that there is none.
//   - cached gives the object that is there, or says that there is none.
//   - add puts its object there, or gives the one that is there.
//   - forget takes the object away, and says whether there was one.
//   - put gives the segment to the storage of record, and does not touch the object; if it fails, it may have.
//   - A reference leads to its object until release.
//
// An object that may be evicted is one that may be there: the next answer tells. So the model needs no guesses.

type state struct {
	record presence // has the storage of record the segment?
	object uint64   // 0: none is there
	loaded uint64   // the last that was loaded
}

type presence uint8

const (
	absent presence = iota
	present
	unknown
)

type input struct {
	what string
	key  uint32
	in   uint64
}

type output struct {
	out    uint64
	status int
}

const (
	done     = 0
	eexist   = -17
	enoent   = -2
	eio      = -5
	notThere = 0
	there    = 1
)

// Objects that were decoded have even numbers, those that were added odd ones.
func isLoaded(object uint64) bool { return object != 0 && object%2 == 0 }

func step(s state, in input, out output, evict bool) (bool, state) {
	gone := s.object == 0 || evict // may there be none now?
	switch in.what {
	case "get":
		switch {
		case out.status == done && out.out != 0 && out.out == s.object:
			return true, s
		case out.status == done:
			ok := gone && isLoaded(out.out) && out.out > s.loaded && s.record != absent
			return ok, state{present, out.out, out.out}
		case out.status == enoent:
			return gone && s.record != present, state{absent, 0, s.loaded}
		case out.status == eio: // the storage of record has failed
			s.object = 0
			return gone, s
		}
	case "cached":
		switch out.status {
		case done:
			return out.out != 0 && out.out == s.object, s
		case enoent:
			s.object = 0
			return gone, s
		}
	case "add":
		switch out.status {
		case done:
			s.object = in.in
			return gone && out.out == in.in, s
		case eexist:
			return out.out != 0 && out.out == s.object, s
		}
	case "forget":
		before := s.object
		s.object = 0
		switch out.status {
		case there:
			return before != 0, s
		case notThere:
			return before == 0 || evict, s
		}
	case "put":
		switch {
		case out.status == done:
			s.record = present
			return true, s
		case out.status == eio:
			if s.record == absent {
				s.record = unknown
			}
			return true, s
		}
	case "release":
		return out.out == in.in && in.in != 0, s
	}
	return false, s // a status that no call of a history may have
}

func model(evict bool) porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[uint32][]porcupine.Operation{}
			for _, op := range history {
				key := op.Input.(input).key
				byKey[key] = append(byKey[key], op)
			}
			var all [][]porcupine.Operation
			for _, ops := range byKey {
				all = append(all, ops)
			}
			return all
		},
		Init: func() interface{} { return state{} },
		Step: func(s, in, out interface{}) (bool, interface{}) {
			return step(s.(state), in.(input), out.(output), evict)
		},
		DescribeOperation: func(in, out interface{}) string {
			i, o := in.(input), out.(output)
			return fmt.Sprintf("%s(%d) -> %d, %d", i.what, i.in, o.status, o.out)
		},
		DescribeState: func(s interface{}) string { return fmt.Sprintf("%+v", s) },
	}
}
