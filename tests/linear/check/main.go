// SPDX-License-Identifier: Apache-2.0

// Check reads a history of tests/linear/record.c and asks Porcupine whether it is linearizable: whether
// the calls can be put in one order, in which each stands between its begin and its end, and of which every
// answer is what the model says. Exit status 0: it is; 1: it is not, with the key whose calls are not; 2: it is no
// history, or there was not enough time to tell.
package main

import (
	"bufio"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

const limit = 60 * time.Second

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(2)
}

func read(r *bufio.Reader) (evict bool, ops []porcupine.Operation) {
	mode, err := r.ReadString('\n')
	if err != nil || (mode != "exact\n" && mode != "evict\n") {
		fail("the first line is neither exact nor evict")
	}
	for {
		var op porcupine.Operation
		var in input
		var out output
		n, err := fmt.Fscanln(r, &in.what, &op.ClientId, &in.key, &in.in, &out.out, &out.status, &op.Call, &op.Return)
		if n == 0 {
			return mode == "evict\n", ops
		}
		if err != nil || op.Return < op.Call {
			fail("call %d: %v", len(ops)+1, err)
		}
		op.Input, op.Output = in, out
		ops = append(ops, op)
	}
}

// The calls of the one key that cannot be put in order, up to the last that could.
func explain(m porcupine.Model, ops []porcupine.Operation) {
	for _, part := range m.Partition(ops) {
		one := m
		one.Partition = nil
		result, info := porcupine.CheckOperationsVerbose(one, part, limit)
		if result != porcupine.Illegal {
			continue
		}
		sort.Slice(part, func(i, j int) bool { return part[i].Call < part[j].Call })
		longest := 0
		for _, lines := range info.PartialLinearizations() {
			for _, line := range lines {
				if len(line) > longest {
					longest = len(line)
				}
			}
		}
		from, to := longest-12, longest+6
		if from < 0 {
			from = 0
		}
		if to > len(part) {
			to = len(part)
		}
		fmt.Printf("key %d: %d of %d calls can be put in order; about there (status, object; ns):\n",
			part[0].Input.(input).key, longest, len(part))
		for _, op := range part[from:to] {
			fmt.Printf("  thread %d %d..%d %s\n", op.ClientId, op.Call-part[from].Call, op.Return-part[from].Call,
				m.DescribeOperation(op.Input, op.Output))
		}
		return
	}
}

func main() {
	evict, ops := read(bufio.NewReaderSize(os.Stdin, 1<<20))
	if len(ops) == 0 {
		fail("a history without calls")
	}
	m := model(evict)
	switch porcupine.CheckOperationsTimeout(m, ops, limit) {
	case porcupine.Ok:
		fmt.Printf("%d calls: linearizable\n", len(ops))
	case porcupine.Illegal:
		fmt.Printf("%d calls: not linearizable\n", len(ops))
		explain(m, ops)
		os.Exit(1)
	default:
		fail("%d calls: not told within %v", len(ops), limit)
	}
}
