-- What wrk sends, chosen by the environment (a script sees its arguments only after wrk has looked at it), and one
-- line of JSON at the end. Static requests are formatted once and cost no Lua while measuring.

local method = os.getenv("LOAD_METHOD")
local body_size = tonumber(os.getenv("LOAD_BODY_SIZE") or "0")
local depth = tonumber(os.getenv("LOAD_DEPTH") or "1")

wrk.method = method
if body_size > 0 then
  wrk.body = string.rep("x", body_size)
  wrk.headers["content-type"] = "application/octet-stream"
elseif os.getenv("LOAD_BODY") then
  wrk.body = os.getenv("LOAD_BODY")
  wrk.headers["content-type"] = "application/json"
end

if depth > 1 then
  local batch
  function init(args)
    batch = string.rep(wrk.format(), depth)
  end
  function request()
    return batch
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "bytes": %d, "p50": %d, "p99": %d, "failed": %d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
