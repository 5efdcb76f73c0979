; exp and log in float32, from plain operations in a fixed order: the same bits on any CPU, and LLVM can make vectors of
; them. The polynomials are those of Moshier's Cephes library (expf, logf). What is not a number stays so.

declare float @llvm.fma.f32(float, float, float)

define internal float @exp(float %any) alwaysinline {
  %is_low = fcmp olt float %any, -87.0
  %not_low = select i1 %is_low, float -87.0, float %any
  %is_high = fcmp ogt float %not_low, 88.0
  %x = select i1 %is_high, float 88.0, float %not_low

  ; x = n ln 2 + r. Adding 1.5 · 2^23 rounds to whole numbers, and leaves n in the lowest bits.
  %shifted = call float @llvm.fma.f32(float %x, float 0x3FF7154760000000, float 0x4168000000000000)
  %n = fsub float %shifted, 0x4168000000000000
  %r_high = call float @llvm.fma.f32(float %n, float 0xBFE6300000000000, float %x)
  %r = call float @llvm.fma.f32(float %n, float 0x3F2BD01060000000, float %r_high)

  %p_0 = call float @llvm.fma.f32(float %r, float 0x3F2A0D2CE0000000, float 0x3F56E879C0000000)
  %p_1 = call float @llvm.fma.f32(float %r, float %p_0, float 0x3F81112100000000)
  %p_2 = call float @llvm.fma.f32(float %r, float %p_1, float 0x3FA5553820000000)
  %p_3 = call float @llvm.fma.f32(float %r, float %p_2, float 0x3FC5555540000000)
  %p_4 = call float @llvm.fma.f32(float %r, float %p_3, float 0x3FE0000000000000)
  %r_squared = fmul float %r, %r
  %r_plus_1 = fadd float %r, 1.0
  %exp_r = call float @llvm.fma.f32(float %r_squared, float %p_4, float %r_plus_1)

  %shifted_bits = bitcast float %shifted to i32
  %exponent = shl i32 %shifted_bits, 23
  %two_to_n_bits = add i32 %exponent, 1065353216
  %two_to_n = bitcast i32 %two_to_n_bits to float
  %result = fmul float %exp_r, %two_to_n
  ret float %result
}

; Of a normal, positive number.
define internal float @log(float %x) alwaysinline {
  ; x = 2^n · m with m between √½ and √2.
  %bits = bitcast float %x to i32
  %from_root = sub i32 %bits, 1060439283
  %n = ashr i32 %from_root, 23
  %n_bits = shl i32 %n, 23
  %m_bits = sub i32 %bits, %n_bits
  %m = bitcast i32 %m_bits to float
  %whole = sitofp i32 %n to float
  %f = fsub float %m, 1.0

  %p_0 = call float @llvm.fma.f32(float %f, float 0x3FB2043760000000, float 0xBFBD7A3700000000)
  %p_1 = call float @llvm.fma.f32(float %f, float %p_0, float 0x3FBDE4A340000000)
  %p_2 = call float @llvm.fma.f32(float %f, float %p_1, float 0xBFBFCBA9E0000000)
  %p_3 = call float @llvm.fma.f32(float %f, float %p_2, float 0x3FC23D37E0000000)
  %p_4 = call float @llvm.fma.f32(float %f, float %p_3, float 0xBFC555CA00000000)
  %p_5 = call float @llvm.fma.f32(float %f, float %p_4, float 0x3FC999D580000000)
  %p_6 = call float @llvm.fma.f32(float %f, float %p_5, float 0xBFCFFFFF80000000)
  %p_7 = call float @llvm.fma.f32(float %f, float %p_6, float 0x3FD5555540000000)
  %f_squared = fmul float %f, %f
  %f_cubed = fmul float %f_squared, %f
  %tail = fmul float %f_cubed, %p_7
  %with_low = call float @llvm.fma.f32(float %whole, float 0xBF2BD01060000000, float %tail)
  %without_half = call float @llvm.fma.f32(float %f_squared, float -0.5, float %with_low)
  %with_f = fadd float %f, %without_half
  %result = call float @llvm.fma.f32(float %whole, float 0x3FE6300000000000, float %with_f)
  ret float %result
}
