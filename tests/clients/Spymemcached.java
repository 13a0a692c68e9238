// SPDX-License-Identifier: Apache-2.0
// What tests/clients/spymemcached runs: spymemcached as a database peer sets it up (binary protocol, consistent hashing
// over ketama, SASL PLAIN if there is a password, an expiry of 30 days), or in text.
//     java -cp spymemcached.jar Spymemcached.java HOST:PORT[,HOST:PORT...] text|binary [USER PASSWORD]

import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import net.spy.memcached.*;
import net.spy.memcached.auth.*;
import net.spy.memcached.internal.*;
import net.spy.memcached.ops.*;
import net.spy.memcached.transcoders.*;

class Spymemcached {
	static final int MONTH = 30 * 24 * 3600;
	static int passed, failed;

	static void same(String what, Object got, Object want) {
		if (Objects.deepEquals(got, want)) {
			passed++;
			return;
		}
		failed++;
		System.out.printf("FAILED %s%n  want %.200s%n  got  %.200s%n", what, want, got);
	}

	// As what a peer keeps: bytes, as they are.
	static class Bytes implements Transcoder<byte[]> {
		public boolean asyncDecode(CachedData d) { return false; }
		public CachedData encode(byte[] b) { return new CachedData(0, b, getMaxSize()); }
		public byte[] decode(CachedData d) { return d.getData(); }
		public int getMaxSize() { return 20 << 20; }
	}

	static final Bytes BYTES = new Bytes();
	static MemcachedClient c;

	static byte[] b(String s) { return s.getBytes(); }
	static byte[] get(String key) { return c.get(key, BYTES); }
	static OperationFuture<Boolean> set(String key, byte[] v) { return c.set(key, MONTH, v, BYTES); }

	static Object status(OperationFuture<Boolean> f) throws Exception {
		f.get(10, TimeUnit.SECONDS);
		return f.getStatus().getStatusCode();
	}

	// An operation that changes a value: no exception from it counts as done.
	static String refused(Callable<Object> call) {
		try {
			Object got = call.call();
			return got == null || got.equals(false) || got.equals(-1L) ? "refused" : "done: " + got;
		} catch (Exception e) {
			return "refused";
		}
	}

	public static void main(String[] args) throws Exception {
		System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
		java.util.logging.Logger.getLogger("net.spy").setLevel(java.util.logging.Level.OFF);
		boolean binary = args[1].equals("binary");
		ConnectionFactoryBuilder how = new ConnectionFactoryBuilder()
		    .setProtocol(binary ? ConnectionFactoryBuilder.Protocol.BINARY : ConnectionFactoryBuilder.Protocol.TEXT)
		    .setLocatorType(ConnectionFactoryBuilder.Locator.CONSISTENT)
		    .setHashAlg(DefaultHashAlgorithm.KETAMA_HASH)
		    .setFailureMode(FailureMode.Cancel).setOpTimeout(10000).setDaemon(true).setMaxReconnectDelay(1);
		if (args.length > 3)
			how.setAuthDescriptor(new AuthDescriptor(new String[] {"PLAIN"},
								 new PlainCallbackHandler(args[2], args[3])));
		c = new MemcachedClient(how.build(), AddrUtil.getAddresses(args[0].replace(',', ' ')));
		boolean wrong = args.length > 3 && args[3].equals("wrong");
		for (int wait = 0; wait < 100 && !wrong && !c.getUnavailableServers().isEmpty(); wait++)
			Thread.sleep(100); // what is asked sooner is cancelled
		if (wrong)
			same("a wrong password", refused(() -> set("k", b("v")).get(5, TimeUnit.SECONDS)), "refused");
		else
			all(binary, args[0].split(",").length);
		c.shutdown(1, TimeUnit.SECONDS);
		System.out.printf("%d passed, %d failed%n", passed, failed);
		System.exit(failed > 0 ? 1 : 0);
	}

	static void all(boolean binary, int servers) throws Exception {
		StatusCode exists = binary ? StatusCode.ERR_EXISTS : StatusCode.ERR_NOT_STORED;

		same("a miss", get("none"), null);
		same("set", status(set("k", b("value"))), StatusCode.SUCCESS);
		same("get", get("k"), b("value"));
		same("set of the same", status(set("k", b("value"))), StatusCode.SUCCESS);
		same("set of another", status(set("k", b("other"))), exists);
		same("is what it was", get("k"), b("value"));
		same("add of what is there", status(c.add("k", MONTH, b("value"), BYTES)), exists);
		same("add", status(c.add("new", MONTH, b("1"), BYTES)), StatusCode.SUCCESS);
		same("get of what was added", get("new"), b("1"));
		CASValue<byte[]> cas = c.gets("k", BYTES);
		same("gets", cas.getValue(), b("value"));
		same("a cas", cas.getCas() != 0 && cas.getCas() == c.gets("k", BYTES).getCas(), true);
		same("delete", status(c.delete("k")), StatusCode.SUCCESS);
		same("delete again", status(c.delete("k")), StatusCode.ERR_NOT_FOUND);
		same("gone", get("k"), null);
		same("set anew", status(set("k", b("other"))), StatusCode.SUCCESS);
		same("touch", status(c.touch("new", MONTH, BYTES)), StatusCode.SUCCESS);
		if (binary)
			same("get and touch", c.getAndTouch("new", MONTH, BYTES).getValue(), b("1"));
		same("strings", c.set("text", MONTH, "a text".repeat(5000)).get(), true); // compressed by the library
		same("come back", c.get("text"), "a text".repeat(5000));

		same("a date of 1970", c.set("past", MONTH + 1, b("v"), BYTES).get(), true);
		same("is over", get("past"), null);

		byte[] large = new byte[960000];
		new Random(1).nextBytes(large);
		same("a large value", status(set("large", large)), StatusCode.SUCCESS);
		same("comes back", get("large"), large);

		many();

		same("increment is refused", refused(() -> c.incr("new", 1)), "refused");
		same("append is refused", refused(() -> c.append("new", b("x"), BYTES).get()), "refused");
		same("replace is refused", refused(() -> c.replace("new", MONTH, b("2"), BYTES).get()), "refused");
		same("flush is refused", refused(() -> c.flush().get()), "refused");
		byte[] huge = new byte[1100000];
		new Random(2).nextBytes(huge);
		same("too large", refused(() -> set("huge", huge).get()), "refused");
		for (int wait = 0; wait < 100 && get0("new") == null; wait++) // it may connect anew after an error
			Thread.sleep(100);
		same("in step", get("new"), b("1"));

		for (int wait = 0; wait < 100 && c.getVersions().size() < servers; wait++) // refused on each of them
			Thread.sleep(100);
		same("versions of all", c.getVersions().size(), servers);
		System.out.println("restart");
		System.in.read(new byte[100]);
		for (int wait = 0; wait < 300 && (get0("k") == null || get0("large") == null ||
						  c.getVersions().size() < servers); wait++)
			Thread.sleep(100);
		same("after a restart of the server", get0("k"), b("other"));
		same("the large one", get0("large"), large);
		same("versions", c.getVersions().size(), servers);
		for (Map<String, String> s : c.getStats().values())
			same("stats", s.containsKey("curr_items"), true);
	}

	static byte[] get0(String key) {
		try {
			return get(key);
		} catch (RuntimeException e) { // the connection has ended and is not there again
			return null;
		}
	}

	// The library sends what waits in one piece and joins gets that do: a multi-get, and pipelining to any depth.
	static void many() throws Exception {
		List<OperationFuture<Boolean>> sets = new ArrayList<>();
		List<String> keys = new ArrayList<>();
		int right = 0;

		for (int i = 0; i < 3000; i++) {
			String key = UUID.nameUUIDFromBytes(b("m" + i)).toString();
			keys.add(key);
			if (i % 3 == 0)
				sets.add(set(key, b(key + i)));
		}
		for (OperationFuture<Boolean> f : sets)
			right += f.get(10, TimeUnit.SECONDS) ? 1 : 0;
		same("sets, pipelined", right, 1000);
		Map<String, byte[]> got = c.getBulk(keys, BYTES);
		right = 0;
		for (int i = 0; i < 3000; i++)
			right += Arrays.equals(got.get(keys.get(i)), i % 3 == 0 ? b(keys.get(i) + i) : null) ? 1 : 0;
		same("a multi-get", right, 3000);
		List<GetFuture<byte[]>> gets = new ArrayList<>();
		for (String key : keys)
			gets.add(c.asyncGet(key, BYTES));
		right = 0;
		for (int i = 0; i < 3000; i++)
			right += Arrays.equals(gets.get(i).get(10, TimeUnit.SECONDS),
					       i % 3 == 0 ? b(keys.get(i) + i) : null) ? 1 : 0;
		same("gets, pipelined", right, 3000);
	}
}
