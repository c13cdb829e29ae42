-- What wrk sends, chosen by the environment (a script sees its arguments only after wrk has looked at it), and one
-- line of JSON at the end. Static requests are formatted once and cost no Lua while measuring.

local method = os.getenv("LOAD_METHOD")
local body_size = tonumber(os.getenv("LOAD_BODY_SIZE") or "0")
local depth = tonumber(os.getenv("LOAD_DEPTH") or "1")
local close_every = tonumber(os.getenv("LOAD_CLOSE_EVERY") or "0")

wrk.method = method
for name, value in string.gmatch(os.getenv("LOAD_HEADERS") or "", "([^:\n]+): ([^\n]*)\n") do
  wrk.headers[name] = value
end
if body_size > 0 then
  wrk.body = string.rep("x", body_size)
elseif os.getenv("LOAD_BODY") then
  wrk.body = os.getenv("LOAD_BODY")
end
if wrk.body then
  wrk.headers["content-type"] = os.getenv("LOAD_CONTENT_TYPE")
end

if depth > 1 then
  local batch
  function init(args)
    batch = string.rep(wrk.format(), depth)
  end
  function request()
    return batch
  end
elseif close_every > 0 then
  -- The last of so many requests says so; wrk connects anew when the answer has come.
  local usual, last
  local sent = 0
  function init(args)
    usual = wrk.format()
    local headers = {}
    for name, value in pairs(wrk.headers) do
      headers[name] = value
    end
    headers["connection"] = "close"
    last = wrk.format(nil, nil, headers)
  end
  function request()
    sent = sent + 1
    if sent % close_every == 0 then
      return last
    end
    return usual
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
