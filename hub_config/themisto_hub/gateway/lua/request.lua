-- Reads what a request names: the endpoint of a gRPC call, and whether it gives entity keys only.
-- Both bodies are kept, base64, for the access log. Each call into Envoy costs as much as a hundred steps here,
-- and each step of a pattern as much as ten: hence few of the first, and none of the second over a whole body.
local PACKAGE = "/inference.GRPCInferenceService/"
local LOGGED_BYTES = 65536

local function varint(s, at)
  local value, scale = 0, 1
  for i = at, at + 9 do
    local byte = s:byte(i)
    if not byte then return nil, at end
    value = value + (byte % 128) * scale
    if byte < 128 then return value, i + 1 end
    scale = scale * 128
  end
  return nil, at
end

-- Calls visit(number, first, last) for each length-delimited field of a protobuf message.
local function fields(s, at, last, visit)
  while at <= last do
    local tag, length
    tag, at = varint(s, at)
    if not tag then return end
    local wire = tag % 8
    if wire == 2 then
      length, at = varint(s, at)
      if not length or at + length - 1 > last then return end
      visit((tag - wire) / 8, at, at + length - 1)
      at = at + length
    elseif wire == 0 then
      length, at = varint(s, at)
      if not length then return end
    elseif wire == 1 then at = at + 8
    elseif wire == 5 then at = at + 4
    else return end
  end
end

-- ModelInferRequest: 1 is the model's name, 5 an input whose field 1 is its name.
local function grpc_names(s)
  local name, inputs = nil, {}
  fields(s, 6, #s, function(number, first, last)
    if number == 1 then
      name = s:sub(first, last)
    elseif number == 5 then
      fields(s, first, last, function(inner, from, to)
        if inner == 1 then inputs[#inputs + 1] = s:sub(from, to) end
      end)
    end
  end)
  return name, inputs
end

local function json_names(s)
  local inputs = {}
  for name in s:gmatch('"name"%s*:%s*"([^"]*)"') do inputs[#inputs + 1] = name end
  return inputs
end

local function entity_only(inputs, features)
  for _, name in ipairs(inputs) do
    if features[name] then return false end
  end
  return #inputs > 0
end

-- The elements of the shape that follows: the product of the numbers of `: [2, 3]`.
local function elements(s, at)
  local product, value, inside = 1, nil, false
  for i = at, #s do
    local c = s:byte(i)
    if inside and c >= 48 and c <= 57 then
      value = (value or 0) * 10 + c - 48
    else
      if value then product, value = product * value, nil end
      if c == 91 and not inside then inside = true -- [
      elseif c > 32 and c ~= (inside and 44 or 58) then break end -- a comma in it, a colon before it
    end
  end
  return product
end

-- What would make Triton reserve memory for elements that the body cannot hold, which ends it and all it serves;
-- and keys that are spelt so that this does not see them. Nobody's encoder escapes letters.
local function impossible(s, head, whole)
  local at = s:find('"shape"', 1, true)
  while at and at <= head do
    if elements(s, at + 7) > whole then return "a shape has more elements than the body" end
    at = s:find('"shape"', at + 7, true)
  end
  at = s:find("\\u00", 1, true)
  at = at and s:find("\\u00[4-7]", at)
  if at and at <= head then return "letters are escaped; send them as they are" end
end

local function log(handle, key, value)
  handle:streamInfo():dynamicMetadata():set("log", key, value)
end

local function kept(handle, bytes)
  return #bytes < LOGGED_BYTES and handle:base64Escape(bytes) or ""
end

-- What the row of the prediction log is made of; the headers change on the way to Triton.
local function log_request(handle, path, endpoint, bytes)
  log(handle, "request", path .. "\r" .. endpoint .. "\r" .. kept(handle, bytes))
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  local grpc = path:sub(1, #PACKAGE) == PACKAGE
  if headers:get(":method") ~= "POST" or (not grpc and path:sub(1, 11) ~= "/v2/models/") then return end
  if grpc and path:sub(-11) == "StreamInfer" then -- never ends by itself: not awaited
    handle:respond({[":status"] = "404"}, "streaming is not served; ask by ModelInfer")
    return
  end
  if headers:get("content-encoding") then -- gzip is unpacked by now
    handle:respond({[":status"] = "415"}, "send the request as it is, or packed by gzip")
    return
  end
  local body = handle:body(true)
  local bytes = body:getBytes(0, body:length())
  headers = handle:headers() -- the earlier handle is void once the body was awaited
  local inputs
  if not grpc then
    log_request(handle, path, "", bytes)
  else
    if bytes:byte(1) == 1 then
      log_request(handle, path, "", bytes)
      handle:respond({[":status"] = "404"}, "compressed gRPC messages are not routed; send them uncompressed")
      return
    end
    local name
    name, inputs = grpc_names(bytes)
    name = name and not name:find("[^%w._-]") and name or ""
    log_request(handle, path, name, bytes)
    if name ~= "" then
      headers:add("x-endpoint", name)
      handle:clearRouteCache()
    end
  end
  local head = tonumber(headers:get("inference-header-content-length") or "") or #bytes
  local wrong = not grpc and impossible(bytes, head, #bytes)
  if wrong then
    handle:respond({[":status"] = "400"}, wrong)
    return
  end
  local features = handle:metadata():get("features")
  if features then
    if entity_only(inputs or json_names(bytes:sub(1, head)), features) then
      headers:add("x-entity", "1")
      log(handle, "entity", "1")
      handle:clearRouteCache()
    end
  end
end

function envoy_on_response(handle)
  local body = handle:body() -- none when headers are all there is, as in a gRPC refusal
  local length = body and body:length() or 0
  if length > 0 and length < LOGGED_BYTES then log(handle, "response", handle:base64Escape(body:getBytes(0, length))) end
end
