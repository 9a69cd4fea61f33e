-- Keeps both bodies of a copied request, base64, for the access log.
local LOGGED_BYTES = 65536

local function log(handle, key, value)
  handle:streamInfo():dynamicMetadata():set("log", key, value)
end

local function kept(handle, body)
  local length = body and body:length() or 0
  return length > 0 and length < LOGGED_BYTES and handle:base64Escape(body:getBytes(0, length)) or ""
end

function envoy_on_request(handle)
  local headers = handle:headers()
  -- The headers change on the way to Triton.
  local path, endpoint = headers:get(":path"), headers:get("x-endpoint")
  log(handle, "caller", headers:get("x-caller") or "")
  if headers:get("x-entity") then log(handle, "entity", "1") end
  log(handle, "request", path .. "\r" .. endpoint .. "\r" .. kept(handle, handle:body(true)))
end

function envoy_on_response(handle)
  local answer = kept(handle, handle:body())
  if answer ~= "" then log(handle, "response", answer) end
end
