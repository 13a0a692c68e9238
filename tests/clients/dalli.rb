# SPDX-License-Identifier: Apache-2.0
# What tests/clients/dalli runs: Dalli, a client in Ruby of its own binary protocol, against a server.
#     ruby dalli.rb HOST:PORT [USER PASSWORD]
require "dalli"
require "digest"

$passed = $failed = 0

def same(what, got, want)
  if got == want
    $passed += 1
  else
    $failed += 1
    puts "FAILED #{what}\n  want #{want.inspect[0, 200]}\n  got  #{got.inspect[0, 200]}"
  end
end

def refused(what)
  same(what, (yield; "done"), "refused")
rescue Dalli::DalliError => e
  same(what, e.message[/131|32/], what =~ /flush/ ? "32" : "131")
end

server, user, password = ARGV
options = { socket_timeout: 10, raw: true, compress: false, value_max_bytes: 2_000_000 }
options.update(username: user, password: password) if user
d = Dalli::Client.new(server, options)
if password == "wrong"
  begin
    same("a wrong password", d.set("k", "v"), "an error")
  rescue Dalli::DalliError
    same("a wrong password", 1, 1)
  end
else
  same("a miss", d.get("none"), nil)
  cas = d.set("k", "value", 2592000)
  same("set gives the cas", cas.is_a?(Integer) && cas != 0, true)
  same("get", d.get("k"), "value")
  same("get_cas", d.get_cas("k"), ["value", cas])
  same("set of the same", d.set("k", "value"), cas)
  same("set of another", d.set("k", "other"), false)
  same("add of what is there", d.add("k", "value"), false)
  same("add", d.add("new", "1").is_a?(Integer), true)
  same("touch", d.touch("new", 3600), true)
  same("touch of a miss", d.touch("none", 3600), nil)
  same("gat", d.gat("new", 3600), "1")
  same("40 days, which the library makes a date to come", d.set("far", "v", 3456000).is_a?(Integer), true)
  same("is there", d.get("far"), "v")
  same("delete", d.delete("k"), true)
  same("delete again", d.delete("k"), nil)
  same("set anew", d.set("k", "other").is_a?(Integer), true)
  large = Digest::SHA512.digest("large") * 15_000
  same("a large value", d.set("large", large).is_a?(Integer), true)
  same("comes back", d.get("large") == large, true)
  keys = (0...300).map { |i| "m#{i}" }
  there = keys.each_slice(3).map(&:first).to_h { |k| [k, k * 20] }
  d.multi { there.each { |k, v| d.set(k, v) } }
  same("multi-get of what was set quietly", d.get_multi(keys), there)
  d.multi { there.each_key { |k| d.delete(k) } }
  same("multi-get of what was deleted quietly", d.get_multi(keys), {})
  refused("incr") { d.incr("new") }
  refused("replace") { d.replace("new", "2") }
  refused("append") { d.append("new", "2") }
  refused("flush_all") { d.flush_all }
  same("too large", (d.set("huge", Random.bytes(1_100_000)) rescue "refused").is_a?(Integer), false)
  same("in step", d.get("new"), "1")
  d.close
  same("after a new connection", d.get("k"), "other")
  STDOUT.puts "restart"
  STDOUT.flush
  STDIN.gets
  back = nil
  300.times { break if (back = (d.get("k") rescue nil)); sleep 0.1 } # an error: not yet
  same("after a restart of the server", back, "other")
  same("the large one", d.get("large") == large, true)
  same("stats", d.stats.values[0]["version"], d.version.values[0])
end
puts "#{$passed} passed, #{$failed} failed"
exit $failed == 0
