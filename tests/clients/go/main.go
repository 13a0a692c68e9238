// SPDX-License-Identifier: Apache-2.0

// What tests/clients/gomemcache runs: gomemcache, which speaks the text protocol, against a server.
//
//	gomemcache HOST:PORT
package main

import (
	"bufio"
	"bytes"
	"crypto/sha512"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

var passed, failed int

func same(what string, got, want interface{}) {
	if reflect.DeepEqual(got, want) {
		passed++
		return
	}
	failed++
	fmt.Printf("FAILED %s\n  want %.200v\n  got  %.200v\n", what, want, got)
}

func main() {
	c := memcache.New(os.Args[1])
	c.Timeout = 10 * time.Second
	set := func(key, value string, expiry int32) error {
		return c.Set(&memcache.Item{Key: key, Value: []byte(value), Expiration: expiry})
	}
	get := func(key string) interface{} {
		it, err := c.Get(key)
		if err != nil {
			return err
		}
		return string(it.Value)
	}

	same("a miss", get("none"), memcache.ErrCacheMiss)
	same("set", set("k", "value", 0), nil)
	same("get", get("k"), "value")
	same("set of the same", set("k", "value", 0), nil)
	same("set of another", set("k", "other", 0), memcache.ErrNotStored)
	same("is what it was", get("k"), "value")
	same("add of what is there", c.Add(&memcache.Item{Key: "k", Value: []byte("value")}), memcache.ErrNotStored)
	same("add", c.Add(&memcache.Item{Key: "new", Value: []byte("1"), Flags: 77}), nil)
	it, err := c.Get("new")
	same("get of what was added", []interface{}{err, string(it.Value), it.Flags}, []interface{}{nil, "1", uint32(77)})
	same("delete", c.Delete("k"), nil)
	same("delete again", c.Delete("k"), memcache.ErrCacheMiss)
	same("gone", get("k"), memcache.ErrCacheMiss)
	same("set anew", set("k", "other", 0), nil)
	same("touch", c.Touch("k", 3600), nil)
	same("touch of a miss", c.Touch("none", 3600), memcache.ErrCacheMiss)

	same("an expiry of 30 days", set("month", "v", 2592000), nil)
	same("is there", get("month"), "v")
	same("a date of 1970", set("past", "v", 2592001), nil)
	same("is over", get("past"), memcache.ErrCacheMiss)

	sum := sha512.Sum512([]byte("large"))
	large := string(bytes.Repeat(sum[:], 15000))
	same("a large value", set("large", large, 0), nil)
	same("comes back", get("large") == large, true)

	var keys []string
	there := map[string]string{}
	for i := 0; i < 300; i++ {
		key := fmt.Sprintf("m%d", i)
		keys = append(keys, key)
		if i%3 == 0 {
			there[key] = key + " is there"
			same("set of many", set(key, there[key], 0), nil)
		}
	}
	many, err := c.GetMulti(keys)
	same("a multi-get", err, nil)
	got := map[string]string{}
	for key, it := range many {
		got[key] = string(it.Value)
	}
	same("brings what is there", got, there)

	// One request at a time on a connection; many connections at a time.
	var all sync.WaitGroup
	errs := make(chan error, 64*30)
	for g := 0; g < 64; g++ {
		all.Add(1)
		go func(g int) {
			defer all.Done()
			for i := 0; i < 30; i++ {
				key := fmt.Sprintf("g%d-%d", g, i)
				if err := set(key, key, 0); err != nil {
					errs <- err
				} else if v := get(key); v != key {
					errs <- fmt.Errorf("%s: %v", key, v)
				}
			}
		}(g)
	}
	all.Wait()
	close(errs)
	for err := range errs {
		same("at the same time", err, nil)
	}
	same("at the same time", len(errs), 0)

	refused := func(err error) bool { return err != nil && err != memcache.ErrCacheMiss }
	_, err = c.Increment("new", 1)
	same("increment is refused", refused(err), true)
	same("replace is refused", refused(c.Replace(&memcache.Item{Key: "new", Value: []byte("2")})), true)
	it, _ = c.Get("new")
	it.Value = []byte("2")
	same("cas is refused", refused(c.CompareAndSwap(it)), true)
	huge := make([]byte, 1100000)
	rand.Read(huge)
	same("too large", refused(set("huge", string(huge), 0)), true)
	same("in step", get("new"), "1")

	fmt.Println("restart")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for i := 0; i < 300 && get("k") != "other"; i++ { // kept connections have ended
		time.Sleep(100 * time.Millisecond)
	}
	same("after a restart of the server", get("k"), "other")
	same("the large one", get("large") == large, true)

	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
