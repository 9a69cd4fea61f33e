-- Names the release in the request that leaves for Triton. RELEASE is defined above this text; where it is
-- nil, several may answer, and the endpoint that was chosen has put its own name into x-release. GRPC is "1" or nil.
local bit = require("bit")

local MODELS = "/v2/models/"
local PACKAGE = "/inference.GRPCInferenceService/Model"

local function name_in_message(handle, release)
  -- Field 1 appended: of a scalar given twice, the last one counts (protobuf encoding).
  local body = handle:body(true)
  local message = body:getBytes(5, body:length() - 5) .. "\10" .. string.char(#release) .. release
  local n = #message
  body:setBytes("\0" .. string.char(
    bit.rshift(n, 24) % 256, bit.rshift(n, 16) % 256, bit.rshift(n, 8) % 256, n % 256) .. message)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  -- Triton records every trace that it is told of, whatever the flag says: it is told of those that are recorded.
  if (headers:get("traceparent") or ""):sub(-2) == "00" then headers:remove("traceparent") end
  local path = headers:get(":path")
  local release = RELEASE or headers:get("x-release")
  if GRPC and path:sub(1, #PACKAGE) == PACKAGE then
    name_in_message(handle, release)
  elseif path:sub(1, #MODELS) == MODELS then
    headers:replace(":path", MODELS .. release .. path:sub(path:find("[/?]", #MODELS + 1) or #path + 1))
  end
end

-- Triton calls a request that it cannot parse its own fault.
local function callers_mistake(handle)
  local body = handle:body()
  local said = body and body:getBytes(0, math.min(body:length(), 60)) or ""
  if said:find('{"error":"Unable to parse', 1, true) == 1 or said:find('{"error":"failed to parse', 1, true) == 1 then
    handle:headers():replace(":status", "400")
  end
end

-- A Triton that has just started has nothing loaded yet. The endpoint is there all the same: not the
-- caller's mistake but "try again", which the route does by itself for a moment (x-absent).
function envoy_on_response(handle)
  local headers = handle:headers()
  if GRPC then
    if headers:get("grpc-status") ~= "5" then return end
    headers:replace("grpc-status", "14")
  else
    local status = headers:get(":status")
    if status == "500" then callers_mistake(handle) end
    if status ~= "404" then return end
    headers:replace(":status", "503")
  end
  headers:replace("x-absent", "1")
end
